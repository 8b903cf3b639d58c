"""``manage.py bootstrap``: the first rows of a database, for deployments that do not use ``make up``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.management.commands import up
from console.process.bootstrap import ADMIN, prepare_database


class Command(up.Command):
    help = "Make the pool, its instances, tenants with keys and the first admin, where they are missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        self.add_fleet_arguments(parser)

    def handle(self, *args: Any, **given: Any) -> None:
        prepared = prepare_database(up.options_from(given), agents_may_live=True)
        if prepared.admin_password:
            self.stdout.write(f"sign in: {ADMIN} / {prepared.admin_password}  (an admin; shown this once)")
        for tenant, key in prepared.tenant_keys.items():
            self.stdout.write(f"key of tenant {tenant}: {key}")
