"""The kinds of rules: each a pure function from facts and parameters to findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.alerts.facts import Facts, InstanceFact

Numbers = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that holds now for a subject (empty: the fleet)."""

    subject: str
    summary: str
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that a rule can be set to, and its range."""

    default: float
    low: float
    high: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Kind:
    """What a rule of this kind looks for."""

    find: Callable[[Facts, Numbers], Iterable[Finding]]
    meaning: str
    parameters: Mapping[str, Parameter]
    needs_live: bool = True
    """Judged on live reports: not judged while they cannot be read."""


def _slo_burn_rate(facts: Facts, given: Numbers) -> Iterator[Finding]:
    """Both windows burn the error budget too fast: the long one is sure, the short one is news."""
    budget = 1.0 - given["objective"]
    long_minutes, short_minutes = int(given["long_minutes"]), int(given["short_minutes"])
    for name in sorted({name for name, _ in facts.windows}):
        long, short = facts.windows.get((name, long_minutes)), facts.windows.get((name, short_minutes))
        if long is None or short is None or short.requests < given["least_requests"]:
            continue
        burn = min(each.missed / each.requests / budget for each in (long, short) if each.requests)
        if burn >= given["burn_rate"]:
            share = 1.0 - short.missed / short.requests
            summary = (
                f"class {name}: {share:.1%} kept their targets in the last {short_minutes} min; "
                f"the error budget burns {burn:.1f} times too fast"
            )
            yield Finding(name, summary, round(burn, 2))


def _instance_stale(facts: Facts, given: Numbers) -> Iterator[Finding]:
    for each in facts.instances:
        if each.state in {"ready", "draining"} and each.age_s is not None and each.age_s > given["age_s"]:
            yield Finding(
                each.instance_id,
                f"{each.instance_id} last reported {each.age_s:.0f} s ago",
                round(each.age_s, 1),
            )


def _instance_unhealthy(facts: Facts, given: Numbers) -> Iterator[Finding]:
    for each in facts.instances:
        if each.state in {"unhealthy", "quarantined"}:
            yield Finding(
                each.instance_id, f"{each.instance_id} is {each.state}: {each.cause or 'no cause known'}"
            )


def _no_ready_instance(facts: Facts, given: Numbers) -> Iterator[Finding]:
    pools: defaultdict[str, bool] = defaultdict(bool)
    for each in facts.instances:
        if each.state != "stopped":
            pools[each.pool] |= each.state == "ready"
    for pool, ready in sorted(pools.items()):
        if not ready:
            yield Finding(pool, f"pool {pool} has no instance that takes work")


def _queue_time(facts: Facts, given: Numbers) -> Iterator[Finding]:
    for name, waited_s in sorted(facts.longest_wait_s.items()):
        if waited_s > given["seconds"]:
            yield Finding(
                name, f"class {name}: a request has waited {waited_s:.0f} s in the queue", round(waited_s, 1)
            )


def _preemption_storm(facts: Facts, given: Numbers) -> Iterator[Finding]:
    for pool, rate in sorted(facts.preemptions_per_minute.items()):
        if rate > given["per_minute"]:
            yield Finding(pool, f"pool {pool}: {rate:.0f} preemptions a minute", round(rate, 1))


def _fragmentation(facts: Facts, given: Numbers) -> Iterator[Finding]:
    for pool in sorted({each.pool for each in facts.instances}):
        share = fragmented_share([each for each in facts.instances if each.pool == pool])
        if share > given["share"]:
            summary = f"pool {pool}: {share:.0%} of memory is free but scattered; waiting requests would fit"
            yield Finding(pool, summary, round(share, 3))


def fragmented_share(instances: Iterable[InstanceFact]) -> float:
    """Share of memory that waiting requests would fill were the free part of it in one piece.

    Demands of the first in each instance's queue, smallest first, as far as they fit
    into all free memory together (Llumnix, section 6.1).
    """
    ready = [each for each in instances if each.state == "ready"]
    capacity = sum(each.capacity_tokens for each in ready)
    free = sum(each.free_tokens for each in ready)
    filled = 0
    for demand in sorted(each.head_of_line_tokens for each in ready if each.head_of_line_tokens):
        if filled + demand > free:
            break
        filled += demand
    return filled / capacity if capacity else 0.0


def _loop_not_leading(facts: Facts, given: Numbers) -> Iterator[Finding]:
    silent_s = facts.loop_silent_s
    if silent_s is None:
        yield Finding("", "no rebalancing loop has ever reported: migrations, drains and scaling are on hold")
    elif silent_s > given["seconds"]:
        yield Finding("", f"the rebalancing loop last ticked {silent_s:.0f} s ago", round(silent_s, 1))


def _quota_near(facts: Facts, given: Numbers) -> Iterator[Finding]:
    for each in facts.limits:
        share = each.used / each.allowed if each.allowed else 0.0
        if share >= given["share"]:
            text = f"{each.subject}: {each.limit} at {share:.0%} ({each.used:g} of {each.allowed:g})"
            yield Finding(f"{each.subject} {each.limit}", text, round(share, 3))


KINDS: dict[str, Kind] = {
    "slo_burn_rate": Kind(
        _slo_burn_rate,
        "a class misses its targets so often that its error budget is spent too fast",
        {
            "objective": Parameter(0.99, 0.5, 0.9999, "share of requests that should keep the targets"),
            "burn_rate": Parameter(6.0, 1.0, 1000.0, "how many times faster than the budget allows"),
            "short_minutes": Parameter(5, 1, 120, "the window that must burn now"),
            "long_minutes": Parameter(60, 5, 2880, "the window that shows it is not a blip"),
            "least_requests": Parameter(20, 1, 1_000_000, "fewer in the short window say nothing"),
        },
        needs_live=False,
    ),
    "instance_stale": Kind(
        _instance_stale,
        "an instance does not report",
        {"age_s": Parameter(10, 1, 3600, "age of the last report")},
    ),
    "instance_unhealthy": Kind(
        _instance_unhealthy, "an instance failed or is quarantined", {}, needs_live=False
    ),
    "no_ready_instance": Kind(_no_ready_instance, "a pool has nobody who takes work", {}, needs_live=False),
    "queue_time": Kind(
        _queue_time,
        "a request waits long for an instance",
        {"seconds": Parameter(30, 0.1, 3600, "longest wait in a gateway's queue")},
    ),
    "preemption_storm": Kind(
        _preemption_storm,
        "a pool pre-empts much",
        {"per_minute": Parameter(60, 1, 1_000_000, "preemptions a minute")},
        needs_live=False,
    ),
    "fragmentation": Kind(
        _fragmentation,
        "memory is free but scattered",
        {"share": Parameter(0.1, 0.001, 1.0, "share of the pool's memory that waiting requests could fill")},
    ),
    "loop_not_leading": Kind(
        _loop_not_leading, "nobody rebalances", {"seconds": Parameter(10, 1, 3600, "since the last tick")}
    ),
    "quota_near": Kind(
        _quota_near, "a limit is nearly used up", {"share": Parameter(0.9, 0.1, 1.0, "used share of a limit")}
    ),
}


def check_parameters(kind: str, given: Any) -> list[str]:
    """What is wrong with the parameters of a rule of this kind, in sentences."""
    if kind not in KINDS:
        return [f"there is no kind {kind!r}; there are: {', '.join(KINDS)}"]
    if not isinstance(given, dict):
        return ["must be a mapping of names to numbers"]
    known = KINDS[kind].parameters
    problems = [f"{name}: {kind} has no such parameter; it has: {', '.join(known) or 'none'}"
                for name in given if name not in known]  # fmt: skip
    for name, parameter in known.items():
        value = given.get(name, parameter.default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            problems.append(f"{name}: must be a number")
        elif not parameter.low <= value <= parameter.high:
            problems.append(f"{name}: must be from {parameter.low:g} to {parameter.high:g}")
    return problems


def find(kind: str, given: Mapping[str, float], facts: Facts) -> list[Finding] | None:
    """What the rule finds now; ``None``: it cannot be judged, so nothing changes."""
    rule = KINDS[kind]
    if rule.needs_live and facts.blind:
        return None
    numbers = {name: given.get(name, each.default) for name, each in rule.parameters.items()}
    return list(rule.find(facts, numbers))
