"""Many simulations at once: what to run, over processes, keeping what is done when stopped."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from typing import cast

from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.snapshot import ClassRule
from controlplane.simulator import bounds, latency, workloads
from controlplane.simulator.driver import simulate
from controlplane.simulator.importers import read_trace
from controlplane.simulator.metrics import RunMetrics, SloTarget, measure_run
from controlplane.simulator.result import SimulationConfig, SimulationResult
from controlplane.simulator.workloads import Workload


class GridError(RuntimeError):
    """A process that simulated died; the text says which runs were under way."""


EMPTY_CLUSTER = "empty cluster"
POOLED_MEMORY = "pooled memory"


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """How to make a workload: one of the paper's mixes at a rate, or a trace file."""

    mix: str = ""
    rate_per_s: float = 0.0
    requests: int = 10_000
    cv: float = 1.0
    trace: str = ""
    """Path of a CSV; then ``mix`` is not used and ``rate_per_s`` 0 keeps the trace's own rate."""
    rate_scale: float = 1.0
    length_scale: float = 1.0
    shares: tuple[tuple[str, float], ...] = ()
    classes: tuple[ClassRule, ...] = ()

    def build(self, seed: int) -> Workload:
        """The workload of this seed. Raises what the generator and the importer raise."""
        return _build(self, seed)


@lru_cache(maxsize=8)
def _build(spec: WorkloadSpec, seed: int) -> Workload:
    rules = {rule.name: rule for rule in spec.classes} or None
    shares = dict(spec.shares)
    if not spec.trace:
        workload = workloads.generate(
            spec.mix, spec.rate_per_s, spec.requests, seed, spec.cv, shares or None, rules
        )
        return workloads.scale(workload, spec.rate_scale, spec.length_scale)
    workload = read_trace(spec.trace, rules, limit=spec.requests or None).workload
    if shares:
        workload = workloads.with_shares(workload, shares, seed)
    rate = spec.rate_per_s / workload.rate_per_s if spec.rate_per_s and workload.rate_per_s else 1.0
    return workloads.scale(workload, rate * spec.rate_scale, spec.length_scale)


@dataclass(frozen=True, slots=True)
class Job:
    """One simulation: a system on a workload."""

    system: str
    """What it is called in tables."""
    workload: WorkloadSpec
    policy: SchedulingConfig
    instances: int = 16
    seed: int = 0
    latency: str = latency.DEFAULT_MODEL
    mode: str = "vllm_2023"
    report_delay_s: float = 0.01
    dispatch_delay_s: float = 0.01
    boot_s: float = 15.0
    relative_speeds: tuple[float, ...] = ()
    """Speed of the first, second, ... instance; 1.0 for those not named."""
    slos: tuple[tuple[str, SloTarget], ...] = ()
    bound: str = ""
    """``empty`` or ``pooled``: a bound on this workload instead of a simulation (the policy is not used)."""
    key: tuple[str, ...] = field(default=())
    """Where the asker files the result."""

    def config(self) -> SimulationConfig:
        return SimulationConfig(
            policy=self.policy,
            instances=self.instances,
            latency=latency.load(self.latency),
            mode=self.mode,
            report_delay_s=self.report_delay_s,
            dispatch_delay_s=self.dispatch_delay_s,
            boot_s=self.boot_s,
            relative_speeds=self.relative_speeds,
            seed=self.seed,
        )


def run_job(job: Job) -> RunMetrics:
    """Simulate and measure, or compute the bound."""
    slos = dict(job.slos) or None
    if not job.bound:
        return measure_run(run_fully(job), slos)
    workload, model = job.workload.build(job.seed), latency.load(job.latency)
    if job.bound == "empty":
        return RunMetrics.of_bound(bounds.empty_cluster(workload, model, job.mode == "vllm_v1", slos))
    return RunMetrics.of_bound(bounds.pooled_memory(workload, model, job.instances, slos=slos))


def run_fully(job: Job) -> SimulationResult:
    """Simulate and keep every record."""
    return simulate(job.workload.build(job.seed), job.config())


@dataclass(slots=True)
class Outcome:
    """What came of some jobs. ``stopped`` when the user stopped them before all were done."""

    done: list[tuple[Job, RunMetrics]]
    stopped: bool = False


def run_jobs(
    jobs: Sequence[Job], processes: int, on_done: Callable[[Job], None] = lambda job: None
) -> Outcome:
    """Run ``jobs`` on so many processes (1: in this one); results come in the order of ``jobs``.

    Ctrl-C stops those under way and keeps what is done. An error of a job is raised as it is.
    """
    found: dict[int, RunMetrics] = {}
    stopped = False
    try:
        for number, metrics in _results(jobs, processes):
            found[number] = metrics
            on_done(jobs[number])
    except KeyboardInterrupt:
        stopped = True
    return Outcome([(jobs[number], found[number]) for number in sorted(found)], stopped)


def _results(jobs: Sequence[Job], processes: int) -> Iterator[tuple[int, RunMetrics]]:
    if processes <= 1 or len(jobs) <= 1:
        for number, job in enumerate(jobs):
            yield number, run_job(job)
        return
    todo = iter(range(len(jobs)))
    workers = [_Worker() for _ in range(min(processes, len(jobs)))]
    try:
        busy = {worker.connection: worker for worker in workers if worker.start_next(todo, jobs)}
        while busy:
            for connection in wait(list(busy)):
                worker = busy[cast(Connection, connection)]
                number = worker.number
                metrics = worker.result(jobs[number])
                if not worker.start_next(todo, jobs):
                    del busy[worker.connection]
                yield number, metrics
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that simulates one job after the other. It ends with its parent, however that ends."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.number = -1

    def start_next(self, todo: Iterator[int], jobs: Sequence[Job]) -> bool:
        """Hand it the next job; ``False`` when there is none left."""
        number = next(todo, None)
        if number is None:
            return False
        self.number = number
        with suppress(BrokenPipeError):
            self.connection.send(jobs[number])
        return True

    def result(self, job: Job) -> RunMetrics:
        """What came of its job; raises the job's error."""
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise GridError(
                f"a process died while simulating {job.system} on {job.workload.mix or job.workload.trace} "
                f"with seed {job.seed} (out of memory?); try fewer --processes"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return cast(RunMetrics, answer)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    """The worker's side: jobs in, metrics or errors out, until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job = connection.recv()
            try:
                answer: object = run_job(job)
            except Exception as error:
                answer = _sendable(error)
            connection.send(answer)


def _sendable(error: Exception) -> Exception:
    """The error itself when it survives a pipe, else its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return GridError(str(error))
    return error


def bound_jobs(job: Job) -> list[Job]:
    """The two bounds of the workload of ``job``. The pooled one knows only the engine of 2023."""
    empty = replace(job, system=EMPTY_CLUSTER, bound="empty", key=(*job.key[:-1], EMPTY_CLUSTER))
    pooled = replace(job, system=POOLED_MEMORY, bound="pooled", key=(*job.key[:-1], POOLED_MEMORY))
    return [empty] if job.mode != "vllm_2023" else [empty, pooled]
