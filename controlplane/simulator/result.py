"""What a simulation is given and what it hands back: plain data."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

from controlplane.scheduling.config import SchedulingConfig
from controlplane.simulator.latency import LatencyModel
from engine_agents.engines.simulated import MODES


class SimulationError(ValueError):
    """The configuration of a simulation is out of range; the text names the field."""


@dataclass(frozen=True)
class SimulationConfig:
    """One simulated fleet under one policy."""

    policy: SchedulingConfig
    instances: int
    latency: LatencyModel
    mode: str = "vllm_2023"
    report_delay_s: float = 0.01
    """From an engine's report to the control plane."""
    dispatch_delay_s: float = 0.01
    """From the control plane's decision to the engine."""
    tick_s: float = 0.2
    """Between two looks of the rebalancing loop."""
    seed: int = 0
    """Noted with the result; the simulation itself draws nothing at random."""
    boot_s: float = 15.0
    """From the decision to start an instance to its first report."""
    relative_speeds: tuple[float, ...] = ()
    """Speed of instance 0, 1, ...; 1.0 for those not named."""
    sample_s: float = 5.0
    jump: bool = True
    """False: do every step (slow; what tests compare with)."""

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise SimulationError(f"instances must be at least 1, got {self.instances}")
        if self.mode not in MODES:
            raise SimulationError(f"mode must be one of {', '.join(MODES)}; got {self.mode!r}")
        for name in ("report_delay_s", "dispatch_delay_s", "boot_s"):
            if getattr(self, name) < 0:
                raise SimulationError(f"{name} must not be negative, got {getattr(self, name):g}")
        for name in ("tick_s", "sample_s"):
            if not getattr(self, name) > 0:
                raise SimulationError(f"{name} must be above 0, got {getattr(self, name):g}")
        if any(speed <= 0 for speed in self.relative_speeds):
            raise SimulationError(f"relative_speeds must be above 0, got {self.relative_speeds}")


@dataclass(slots=True)
class RequestRecord:
    """What became of one request; times in seconds of virtual time, -1.0 for what never happened."""

    request_id: int
    slo_class: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_token_s: float
    finished_s: float
    preemptions: int
    preemption_loss_s: float
    """From each pre-emption to the end of its recomputation."""
    migrations: int
    downtime_s: float
    instances: tuple[int, ...]
    """Numbers of the instances that held it, in order."""
    rejected: bool = False


@dataclass(slots=True)
class MigrationRecord:
    """One migration of one request."""

    request_id: int
    source: int
    destination: int
    rule: str
    why: str
    start_s: float
    end_s: float
    tokens: int
    stages: int
    outcome: str
    """``done``, or why it was aborted."""
    downtime_s: float


@dataclass(slots=True)
class Sample:
    """The fleet at one moment."""

    at_s: float
    instances: int
    """Started and not yet gone, booting ones included."""
    used_share: float
    fragmentation: float
    """Free memory that blocked heads of line could use, were it in one place; share of all memory."""
    running: int
    waiting: int
    """On instances and in the fleet's queue."""


@dataclass(slots=True)
class SimulationResult:
    records: list[RequestRecord]
    samples: list[Sample]
    migrations: list[MigrationRecord]
    instance_seconds: float
    end_s: float
    events_sha256: str
    steps: int
    cpu_s: float
    decisions: int = 0
    scale_events: Rows[tuple[float, str, int]] = field(default_factory=tuple)
