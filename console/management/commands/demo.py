"""``manage.py demo``: ``up`` with a bursty workload of several tenants running against it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.management.commands import up
from console.process.bootstrap import Prepared
from console.process.child import Child
from console.process.options import Options
from console.process.stack import PYTHON

MIX = "S-L"
"""Short prompts, long outputs, both heavy-tailed: where migration earns its keep."""
CLASS_SHARES = "interactive=0.25,standard=0.55,batch=0.2"
BURSTINESS_CV = 4.0
RATE_PER_S = 4.0
MOST_OPEN = 120
"""A slow machine gets a queue to look at, not an endless one."""
FOREVER_S = 30_000
LINE_EVERY_S = 10


class Command(up.Command):
    help = "Run everything on this machine with load on it, to be looked at. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--rate", type=float, default=RATE_PER_S, help="requests per second on average")

    def handle(self, *args: Any, **given: Any) -> None:
        rate = given["rate"]
        self.workload = lambda options, prepared, environment: workload(rate, options, prepared, environment)
        super().handle(*args, **given)


def workload(rate: float, options: Options, prepared: Prepared, environment: dict[str, str]) -> Child:
    """The sender: a tenant per class, bursts (Gamma arrivals), lengths from the paper's generator."""
    numbers = {
        "--mix": MIX,
        "--rate": str(rate),
        "--cv": str(BURSTINESS_CV),
        "--classes": CLASS_SHARES,
        "--duration": str(FOREVER_S),
        "--every": str(LINE_EVERY_S),
        "--max-open": str(MOST_OPEN),
        "--url": options.gateway_url,
    }
    arguments = [word for item in numbers.items() for word in item]
    return Child(
        name="demo",
        command=(PYTHON, "manage.py", "replay", *arguments),
        environment=environment,
        grace_s=0.5,
    )
