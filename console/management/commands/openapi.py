"""``manage.py openapi``: the OpenAPI document of the admin API."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.api.openapi import DOCUMENT, generated


class Command(BaseCommand):
    help = "Print the OpenAPI document; --write stores it where it is committed, --check compares."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--write", action="store_true")
        parser.add_argument("--check", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        text = generated()
        if options["check"] and DOCUMENT.read_text() != text:
            raise CommandError("console/api/openapi.json is not what the code says: run openapi --write")
        if options["write"]:
            DOCUMENT.write_text(text)
            self.stdout.write(f"{DOCUMENT}: {text.count('operationId')} operations")
        elif not options["check"]:
            self.stdout.write(text)
