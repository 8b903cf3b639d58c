"""What a run was like for those it served, and what it cost.

*Prefill* is arrival to first token (TTFT, queueing included), *decode* the mean time of
a request's output tokens after the first (TPOT), *request* arrival to last token; so the
Llumnix evaluation (OSDI'24, 6.1) has them. *Preemption loss* is the time from a
pre-emption to the end of the prefill that makes good for it, summed per request and
averaged over all requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controlplane.simulator.result import SimulationResult

Values = NDArray[np.float64]

LONG_PROMPT_SHARE = 0.05
"""Fairness looks at this share of the requests, those with the longest prompts."""


class ServedRequest(Protocol):
    """What metrics read of a request that was served (the driver's ``RequestRecord``)."""

    slo_class: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_token_s: float
    finished_s: float
    preemptions: int
    preemption_loss_s: float
    migrations: int
    downtime_s: float


@dataclass(frozen=True, slots=True)
class SloTarget:
    """A class's promise; ``None`` promises nothing."""

    ttft_s: float | None
    tpot_s: float | None


DEFAULT_SLOS: dict[str, SloTarget] = {
    "interactive": SloTarget(0.5, 0.05),
    "standard": SloTarget(2.0, 0.08),
    "batch": SloTarget(60.0, None),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and percentiles of some times in seconds; all 0 when there is none."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, values: Values) -> Distribution:
        if not len(values):
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p90, p99, p999 = map(float, np.percentile(values, [50, 90, 99, 99.9]))
        return cls(len(values), float(values.mean()), p50, p90, p99, p999, float(values.max()))


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """One class's requests, or all of them."""

    requests: int
    request_s: Distribution
    prefill_s: Distribution
    decode_s: Distribution
    """Per output token after the first; requests of one token have none."""
    preemptions: int
    preempted_requests: int
    preemption_loss_mean_s: float
    slo_attainment: float
    """Share of the requests that kept both promises of their class."""
    goodput_per_s: float
    """Requests per second that kept them."""


@dataclass(frozen=True, slots=True)
class ServiceMetrics:
    """All requests, each class, and how the longest prompts fared."""

    makespan_s: float
    """First arrival to last token."""
    all: GroupMetrics
    classes: dict[str, GroupMetrics]
    long_prompt_prefill_p99_s: float
    longest_wait_s: float
    """The longest time any request waited for its first token."""
    migrations: int
    migrated_requests: int
    downtime_s: Distribution
    """Per migrated request, all its migrations together."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(records: Sequence[ServedRequest], slos: Mapping[str, SloTarget] | None = None) -> ServiceMetrics:
    """Metrics of the requests of one run. Raises :class:`ValueError` when there is none."""
    if not records:
        raise ValueError("no requests were served, so there is nothing to measure")
    table = _Table.of(records, DEFAULT_SLOS if slos is None else slos)
    makespan_s = float(table.finished.max() - table.arrival.min())
    everyone = np.ones(len(records), dtype=bool)
    return ServiceMetrics(
        makespan_s=makespan_s,
        all=table.group(everyone, makespan_s),
        classes={
            name: table.group(table.slo_class == name, makespan_s) for name in sorted(set(table.slo_class))
        },
        long_prompt_prefill_p99_s=float(np.percentile(table.prefill[table.longest_prompts()], 99)),
        longest_wait_s=float(table.prefill.max()),
        migrations=int(table.migrations.sum()),
        migrated_requests=int((table.migrations > 0).sum()),
        downtime_s=Distribution.of(table.downtime[table.migrations > 0]),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """Records as columns."""

    slo_class: NDArray[np.str_]
    arrival: Values
    finished: Values
    prompt: Values
    prefill: Values
    decode: Values
    """NaN for requests of one token."""
    preemptions: Values
    loss: Values
    migrations: Values
    downtime: Values
    kept_slo: NDArray[np.bool_]

    @classmethod
    def of(cls, records: Sequence[ServedRequest], slos: Mapping[str, SloTarget]) -> _Table:
        rows = np.array(
            [
                (
                    r.arrival_s,
                    r.first_token_s,
                    r.finished_s,
                    r.prompt_tokens,
                    r.output_tokens,
                    r.preemptions,
                    r.preemption_loss_s,
                    r.migrations,
                    r.downtime_s,
                )
                for r in records
            ],
            dtype=np.float64,
        )
        arrival, first, finished, prompt, output, preemptions, loss, migrations, downtime = rows.T
        names = np.array([r.slo_class for r in records])
        decode = np.where(output > 1, (finished - first) / np.maximum(output - 1, 1), np.nan)
        kept = _kept(names, first - arrival, decode, slos)
        return cls(
            names, arrival, finished, prompt, first - arrival, decode, preemptions, loss, migrations,
            downtime, kept,
        )  # fmt: skip

    def group(self, chosen: NDArray[np.bool_], makespan_s: float) -> GroupMetrics:
        decode = self.decode[chosen]
        kept = int(self.kept_slo[chosen].sum())
        count = int(chosen.sum())
        return GroupMetrics(
            requests=count,
            request_s=Distribution.of((self.finished - self.arrival)[chosen]),
            prefill_s=Distribution.of(self.prefill[chosen]),
            decode_s=Distribution.of(decode[~np.isnan(decode)]),
            preemptions=int(self.preemptions[chosen].sum()),
            preempted_requests=int((self.preemptions[chosen] > 0).sum()),
            preemption_loss_mean_s=float(self.loss[chosen].mean()),
            slo_attainment=kept / count,
            goodput_per_s=kept / makespan_s if makespan_s > 0 else 0.0,
        )

    def longest_prompts(self) -> NDArray[np.intp]:
        count = max(1, int(LONG_PROMPT_SHARE * len(self.prompt)))
        return np.argsort(-self.prompt, kind="stable")[:count]


def _kept(
    names: NDArray[np.str_], prefill: Values, decode: Values, slos: Mapping[str, SloTarget]
) -> NDArray[np.bool_]:
    kept = np.ones(len(names), dtype=bool)
    for name, target in slos.items():
        mine = names == name
        if target.ttft_s is not None:
            kept &= ~mine | (prefill <= target.ttft_s)
        if target.tpot_s is not None:
            kept &= ~mine | np.isnan(decode) | (decode <= target.tpot_s)
    return kept


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """One simulated run: service, and what the fleet did for it."""

    service: ServiceMetrics
    rejected: int
    instances_mean: float
    """Over time, booting and draining ones included."""
    instances_max: int
    instance_seconds: float
    used_share_mean: float
    fragmentation_mean: float
    """Free memory that blocked heads of line could use were it in one place, as a share of all memory."""
    fragmentation_p99: float
    migrations_done: int
    migrations_aborted: int
    migrated_tokens: int
    steps: int
    events_sha256: str
    cpu_s: float

    @classmethod
    def of_bound(cls, service: ServiceMetrics) -> RunMetrics:
        """A bound serves requests but has no fleet to tell of."""
        return cls(service, 0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0, "", 0.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_run(result: SimulationResult, slos: Mapping[str, SloTarget] | None = None) -> RunMetrics:
    """Metrics of a whole run. Raises :class:`ValueError` when not one request was served."""
    served = [record for record in result.records if record.finished_s >= 0]
    done = [move for move in result.migrations if move.outcome == "done"]
    used = np.array([sample.used_share for sample in result.samples] or [0.0])
    fragmentation = np.array([sample.fragmentation for sample in result.samples] or [0.0])
    return RunMetrics(
        service=measure(served, slos),
        rejected=sum(record.rejected for record in result.records),
        instances_mean=result.instance_seconds / result.end_s if result.end_s > 0 else 0.0,
        instances_max=max((sample.instances for sample in result.samples), default=0),
        instance_seconds=result.instance_seconds,
        used_share_mean=float(used.mean()),
        fragmentation_mean=float(fragmentation.mean()),
        fragmentation_p99=float(np.percentile(fragmentation, 99)),
        migrations_done=len(done),
        migrations_aborted=len(result.migrations) - len(done),
        migrated_tokens=sum(move.tokens for move in done),
        steps=result.steps,
        events_sha256=result.events_sha256,
        cpu_s=result.cpu_s,
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Of numbers above 0; raises :class:`ValueError` for others or for none."""
    if not values or min(values) <= 0:
        raise ValueError(f"a geometric mean needs numbers above 0, got {list(values)}")
    return float(np.exp(np.log(np.array(values, dtype=np.float64)).mean()))
