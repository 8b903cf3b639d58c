"""``manage.py doctor``: looks at everything, explains what is wrong; exit status 1 when something fails."""

from __future__ import annotations

import json
import logging
import sys
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand

from console.doctor import fleet, machine, stores
from console.doctor.finding import FAIL, OK, WARN, Check, Finding, look

CHECKS: tuple[tuple[str, Check], ...] = (
    ("packages", machine.versions),
    ("profile", machine.profile),
    ("disk", machine.disks),
    ("memory", machine.memory),
    ("ports", machine.ports),
    ("database", stores.database),
    ("redis", stores.redis),
    ("clocks", stores.clocks),
    ("rebalancing loop", fleet.loop),
    ("jobs", fleet.jobs_and_ray),
    ("engines", fleet.engines),
    ("gateways", fleet.gateways),
)


class Command(BaseCommand):
    help = (
        "Check database, Redis, Ray, engines, gateways, clocks, versions, disk and ports, and explain. "
        "Exit status: 0 all is well (or only warnings), 1 something fails."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs: {level, findings}")
        parser.add_argument("--strict", action="store_true", help="warnings end with status 1, too")

    def handle(self, *args: Any, **given: Any) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # our own probes are no news
        found = look(CHECKS)
        level = _worst(found)
        if given["json"]:
            report = {"level": level, "findings": [each.to_dict() for each in found]}
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self.stdout.write("\n".join(each.line() for each in found))
            self.stdout.write(_summary(found))
        if level == FAIL or (given["strict"] and level == WARN):
            sys.exit(1)


def _worst(found: list[Finding]) -> str:
    levels = {each.level for each in found}
    return FAIL if FAIL in levels else WARN if WARN in levels else OK


def _summary(found: list[Finding]) -> str:
    counts = Counter(each.level for each in found)
    return f"\n{counts[OK]} well, {counts[WARN]} to look at, {counts[FAIL]} failing"
