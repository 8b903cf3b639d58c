"""What the simulated fleet has to serve: requests with arrival, prompt, output and class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlplane.scheduling.snapshot import ClassRule
from controlplane.simulator.arrivals import arrival_times, draw_classes
from controlplane.simulator.lengths import MIXES, draw_mix

DEFAULT_CLASSES: dict[str, ClassRule] = {
    "interactive": ClassRule("interactive", rank=0),
    "standard": ClassRule("standard", rank=1),
    "batch": ClassRule("batch", rank=2),
}
"""The product's classes; none has execution priority until a target load is given."""


class WorkloadError(ValueError):
    """A workload cannot be made as asked for; the text says what is wrong and what there is."""


@dataclass(slots=True)
class SimRequest:
    """One request of a workload. ``output_tokens`` is what it will make; policies never see it."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    slo_class: str = "standard"


@dataclass(slots=True)
class Workload:
    """Requests in order of arrival and the rules of their classes."""

    name: str
    requests: list[SimRequest]
    classes: dict[str, ClassRule]

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last."""
        return self.requests[-1].arrival_s - self.requests[0].arrival_s if self.requests else 0.0

    @property
    def rate_per_s(self) -> float:
        """Requests per second between the first arrival and the last."""
        return (len(self.requests) - 1) / self.duration_s if self.duration_s > 0 else 0.0


def generate(
    mix: str,
    rate_per_s: float,
    requests: int = 10_000,
    seed: int = 0,
    cv: float = 1.0,
    shares: Mapping[str, float] | None = None,
    classes: Mapping[str, ClassRule] | None = None,
) -> Workload:
    """A workload of one of the paper's seven mixes (``lengths.MIXES``).

    ``shares`` gives each class its share of the requests (all ``standard`` by default),
    ``classes`` their rules. Raises :class:`WorkloadError` for an unknown mix or class and
    for numbers out of range.
    """
    if mix not in MIXES:
        raise WorkloadError(f"no length mix {mix!r}; there are {', '.join(MIXES)}")
    rules = dict(classes or DEFAULT_CLASSES)
    shares = shares or {"standard": 1.0}
    _known_classes(shares, rules)
    if requests < 1:
        raise WorkloadError(f"requests must be at least 1, got {requests}")
    prompts, outputs = draw_mix(mix, requests, seed)
    try:
        arrivals = arrival_times(rate_per_s, requests, seed, cv)
        names = draw_classes(shares, requests, seed)
    except ValueError as error:
        raise WorkloadError(str(error)) from error
    rows = zip(arrivals.tolist(), prompts.tolist(), outputs.tolist(), names, strict=True)
    return Workload(
        name=workload_name(mix, rate_per_s, cv),
        requests=[SimRequest(number, *row) for number, row in enumerate(rows)],
        classes=rules,
    )


def workload_name(mix: str, rate_per_s: float, cv: float) -> str:
    """How a generated workload is called in tables: ``M-M @ 7.6/s`` or ``S-S @ 26/s CV 4``."""
    return f"{mix} @ {rate_per_s:g}/s" + ("" if cv == 1.0 else f" CV {cv:g}")


def scale(workload: Workload, rate: float = 1.0, length: float = 1.0) -> Workload:
    """The same workload ``rate`` times as fast, its lengths times ``length`` (at least 1 token).

    Raises :class:`WorkloadError` for a factor that is not positive.
    """
    for name, factor in (("rate", rate), ("length", length)):
        if not 0 < factor < float("inf"):
            raise WorkloadError(f"{name} scale must be above 0, got {factor:g}")
    scaled = [
        replace(
            request,
            arrival_s=request.arrival_s / rate,
            prompt_tokens=max(1, round(request.prompt_tokens * length)),
            output_tokens=max(1, round(request.output_tokens * length)),
        )
        for request in workload.requests
    ]
    return Workload(workload.name, scaled, workload.classes)


def with_shares(workload: Workload, shares: Mapping[str, float], seed: int) -> Workload:
    """The same arrivals and lengths with classes drawn anew."""
    _known_classes(shares, workload.classes)
    names = draw_classes(shares, len(workload.requests), seed)
    drawn = [replace(r, slo_class=name) for r, name in zip(workload.requests, names, strict=True)]
    return Workload(workload.name, drawn, workload.classes)


def _known_classes(shares: Mapping[str, float], rules: Mapping[str, ClassRule]) -> None:
    unknown = [name for name in shares if name not in rules]
    if unknown:
        raise WorkloadError(f"no SLO class {unknown[0]!r}; there are {', '.join(rules)}")
