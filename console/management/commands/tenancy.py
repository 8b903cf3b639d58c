"""Tenants, classes and limits as YAML: ``tenancy export``, ``tenancy diff FILE``, ``tenancy apply FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from controlplane.tenancy.interchange import Change, apply_import, export_yaml, plan_import
from controlplane.tenancy.services import TenancyConflictError


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parts = parser.add_subparsers(dest="part", required=True)
        parts.add_parser("export", help="write what is there to standard output")
        diff = parts.add_parser("diff", help="show what a document would change, and its digest")
        diff.add_argument("file", help="- reads standard input")
        apply = parts.add_parser("apply", help="change it")
        apply.add_argument("file", help="- reads standard input")
        apply.add_argument("--digest", default="", help="only if it does what diff showed")
        apply.add_argument("--actor", default="system:command", help="who does it, for the audit list")
        apply.add_argument("--reason", default="", help="why, for the audit list")

    def handle(self, *args: Any, part: str, **options: Any) -> None:
        if part == "export":
            self.stdout.write(export_yaml(), ending="")
            return
        try:
            text = sys.stdin.read() if options["file"] == "-" else Path(options["file"]).read_text("utf-8")
            if part == "diff":
                plan = plan_import(text)
            else:
                said = {name: options[name] for name in ("digest", "actor", "reason")}
                plan = apply_import(text, **said)
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from None
        except (OSError, UnicodeDecodeError, TenancyConflictError) as error:
            raise CommandError(str(error)) from None
        for change in plan.changes:
            self.stdout.write(_shown(change))
        self.stdout.write(f"{len(plan.changes)} changes, digest {plan.digest}")


def _shown(change: Change) -> str:
    lines = [f"{change.action} {change.kind} {change.name}"]
    for name, value in change.after.items():
        before = f"{change.before[name]!r} -> " if name in change.before else ""
        lines.append(f"    {name}: {before}{value!r}")
    return "\n".join(lines)
