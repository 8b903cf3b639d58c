"""The command line's arguments: their names, limits and the job that they describe."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlplane.scheduling.config import POLICY_NAMES, ConfigError, SchedulingConfig
from controlplane.scheduling.snapshot import ClassRule
from controlplane.simulator import latency
from controlplane.simulator.grid import Job, WorkloadSpec
from controlplane.simulator.lengths import MIXES
from controlplane.simulator.metrics import DEFAULT_SLOS, SloTarget
from controlplane.simulator.paper_grid import policy_for
from controlplane.simulator.workloads import DEFAULT_CLASSES, WorkloadError
from engine_agents.engines.simulated import MODES


def positive(text: str) -> float:
    """A number above 0."""
    return _checked(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def not_negative(text: str) -> float:
    """A number of at least 0."""
    return _checked(text, float, lambda value: 0 <= value < float("inf"), "a number of at least 0")


def count(text: str) -> int:
    """A whole number of at least 1."""
    return int(_checked(text, int, lambda value: value >= 1, "a whole number of at least 1"))


def seed(text: str) -> int:
    """A whole number of at least 0."""
    return int(_checked(text, int, lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647"))


def _checked(text: str, kind: Callable[[str], float], good: Callable[[float], bool], what: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = float("nan")
    if not good(value):
        raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
    return value


def speeds(text: str) -> tuple[float, ...]:
    """Numbers above 0, separated by commas."""
    return tuple(positive(part.strip()) for part in text.split(","))


def output_file(text: str) -> Path:
    """A path whose folder exists, so that a long run does not end in nothing."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder")
    return path


def assignment(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def add_workload(parser: argparse.ArgumentParser) -> None:
    """What the fleet has to serve."""
    group = parser.add_argument_group("workload")
    mixes = ", ".join(MIXES)
    group.add_argument("--workload", default="M-M", metavar="MIX|FILE", help=f"{mixes}, or a trace (CSV)")
    group.add_argument("--rate", type=positive, help="requests per second (a trace has its own)")
    group.add_argument("--cv", type=positive, default=1.0, help="of inter-arrival times; 1 is Poisson")
    group.add_argument("--requests", type=count, help="how many (default 10000; a trace: all)")
    group.add_argument("--seed", type=seed, default=0)
    group.add_argument("--rate-scale", type=positive, default=1.0, help="times as fast")
    group.add_argument("--length-scale", type=positive, default=1.0, help="times as long")
    group.add_argument(
        "--share", type=assignment, action="append", default=[], metavar="CLASS=WEIGHT", help="repeat"
    )
    group.add_argument(
        "--target-load",
        type=assignment,
        action="append",
        default=[],
        metavar="CLASS=TOKENS",
        help="execution priority: other classes fill an instance that hosts CLASS up to TOKENS",
    )
    group.add_argument(
        "--slo",
        type=assignment,
        action="append",
        default=[],
        metavar="CLASS=TTFT_S,TPOT_S",
        help="promises for attainment and goodput; - promises nothing",
    )


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """What serves it."""
    group = parser.add_argument_group("fleet")
    group.add_argument("--instances", type=count, default=16)
    models = ", ".join(latency.available())
    group.add_argument("--latency", default=latency.DEFAULT_MODEL, metavar="MODEL|FILE", help=models)
    group.add_argument(
        "--speeds", type=speeds, default=(), metavar="S,S,...", help="of the first, second, ... instance"
    )
    group.add_argument("--mode", choices=MODES, default=MODES[0], help="how engines batch")
    group.add_argument("--report-delay-ms", type=not_negative, default=10.0)
    group.add_argument("--dispatch-delay-ms", type=not_negative, default=10.0)
    group.add_argument("--boot-s", type=not_negative, default=15.0, help="until a new instance serves")
    group.add_argument(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the scheduling configuration, e.g. rescheduling.enabled=false; repeat",
    )


def job_of(arguments: argparse.Namespace, policy: str) -> Job:
    """The simulation that the arguments describe.

    Raises :class:`WorkloadError`, :class:`ConfigError` or :class:`latency.LatencyModelError`.
    """
    latency.load(arguments.latency)
    return Job(
        system=policy,
        workload=workload_of(arguments),
        policy=policy_of(arguments, policy),
        instances=arguments.instances,
        seed=arguments.seed,
        latency=arguments.latency,
        mode=arguments.mode,
        report_delay_s=arguments.report_delay_ms / 1000,
        dispatch_delay_s=arguments.dispatch_delay_ms / 1000,
        boot_s=arguments.boot_s,
        relative_speeds=arguments.speeds,
        slos=tuple(_slos(arguments.slo).items()),
        key=(str(arguments.seed), policy),
    )


def workload_of(arguments: argparse.Namespace) -> WorkloadSpec:
    """The workload alone. Raises :class:`WorkloadError`."""
    name = arguments.workload
    is_mix = name in MIXES
    if not is_mix and not Path(name).is_file():
        raise WorkloadError(
            f"--workload: no trace file {name!r} and no mix of that name ({', '.join(MIXES)})"
        )
    if is_mix and arguments.rate is None:
        raise WorkloadError(f"--rate is needed for the mix {name}")
    return WorkloadSpec(
        mix=name if is_mix else "",
        trace="" if is_mix else name,
        rate_per_s=arguments.rate or 0.0,
        requests=arguments.requests or (10_000 if is_mix else 0),
        cv=arguments.cv,
        rate_scale=arguments.rate_scale,
        length_scale=arguments.length_scale,
        shares=tuple((_class("--share", n), _amount("--share", n, v)) for n, v in arguments.share),
        classes=_classes(arguments.target_load),
    )


def _class(option: str, name: str) -> str:
    if name not in DEFAULT_CLASSES:
        raise WorkloadError(f"{option}: no SLO class {name!r}; there are {', '.join(DEFAULT_CLASSES)}")
    return name


def _amount(option: str, name: str, text: str) -> float:
    try:
        return not_negative(text)
    except argparse.ArgumentTypeError as error:
        raise WorkloadError(f"{option} {name}: {error}") from error


def _classes(target_loads: Sequence[tuple[str, str]]) -> tuple[ClassRule, ...]:
    rules = dict(DEFAULT_CLASSES)
    for name, text in target_loads:
        tokens = int(_amount("--target-load", _class("--target-load", name), text))
        rules[name] = replace(rules[name], target_load_tokens=tokens)
    return tuple(rules.values())


def _slos(given: Sequence[tuple[str, str]]) -> dict[str, SloTarget]:
    slos = dict(DEFAULT_SLOS)
    for name, text in given:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 2:
            raise WorkloadError(f"--slo {name}: expected TTFT_S,TPOT_S, got {text!r}")
        ttft, tpot = (None if p == "-" else _amount("--slo", name, p) for p in parts)
        slos[_class("--slo", name)] = SloTarget(ttft, tpot)
    return slos


def policy_of(arguments: argparse.Namespace, policy: str) -> SchedulingConfig:
    """A policy as the paper sets it for the mix, with the fields of ``--set`` laid over it."""
    if policy not in POLICY_NAMES:
        raise ConfigError("policy", f"must be one of {', '.join(POLICY_NAMES)}; got {policy!r}")
    changes: dict[str, Any] = {}
    for path, text in arguments.set:
        part, dot, name = path.partition(".")
        if not dot:
            raise ConfigError(path, "must be PART.FIELD, e.g. rescheduling.enabled")
        changes.setdefault(part, {})[name] = _value(text)
    if "policy" in changes:
        raise ConfigError("policy", "is not a part; choose it by --policy")
    return policy_for(policy, arguments.workload, **changes)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
