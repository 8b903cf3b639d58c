"""``manage.py bootstrap``: the first rows of a database, for deployments that do not use ``make up``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.management.commands import up
from console.process.bootstrap import OPERATOR, prepare_database


class Command(up.Command):
    help = "Make the pool, its instances, tenants with keys and the first operator, where they are missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        self.add_fleet_arguments(parser)

    def handle(self, *args: Any, **given: Any) -> None:
        prepared = prepare_database(up.options_from(given), agents_may_live=True)
        if prepared.operator_password:
            self.stdout.write(f"operator: {OPERATOR} / {prepared.operator_password}  (shown this once)")
        for tenant, key in prepared.tenant_keys.items():
            self.stdout.write(f"key of tenant {tenant}: {key}")
