"""The control plane as processes of its own beside a loaded data plane: workers, beats, database."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import redis

from console.settings.env import child_environment
from controlplane.rebalancing.types import LoopStatus
from controlplane.scheduling.config import SchedulingConfig
from engine_agents.messages import MigrationOutcome
from tests.faults.agents import ROOT, AgentGoneError, wait_until
from tests.faults.database import Database
from tests.faults.load import Ask, Shape
from tests.faults.redis_server import RedisServer
from tests.faults.scene import Scene
from tests.faults.site import Site
from tests.faults.trials import Oracle, Stage
from tests.gateway.harness import POOL

INTERVAL_S = 0.1
LEASE_TTL_S = 1.5
NAMES = ("a", "b", "c")
FAST_STEP_MS = 0.5
STALE_AFTER_S = 2.0


def shapes(tokens: int) -> list[Shape]:
    long = {"max_tokens": tokens, "ignore_eos": True}
    return [
        Shape("greedy", {"temperature": 0, **long}),
        Shape("seeded", {"temperature": 1.0, "seed": 7, **long}, prompt_tokens=300),
    ]


class SlowSite(Site):
    """Paced agents whose steps are slow enough for streams to outlive an outage."""

    step_ms = FAST_STEP_MS

    def config(self, name: str, **changes: Any) -> Any:
        pace = {"base_step_ms": self.step_ms, "per_sequence_ms": 0.0, "per_prefill_token_ms": 0.001}
        return super().config(name, engine_args=pace, **changes)


@dataclass(frozen=True, slots=True)
class Beat:
    """What the loop said of itself, and when we saw it."""

    at_s: float
    status: LoopStatus


class Watcher(threading.Thread):
    """Follows the loop's own report through every outage."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self._client = redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)
        self._key = key
        self._ending = threading.Event()
        self.beats: list[Beat] = []

    def run(self) -> None:
        while not self._ending.wait(0.01):
            try:
                raw: Any = self._client.get(self._key)
            except (redis.RedisError, OSError):
                continue
            if raw:
                status = msgspec.json.decode(raw, type=LoopStatus)
                if not self.beats or self.beats[-1].status.last_tick_at_s != status.last_tick_at_s:
                    self.beats.append(Beat(time.monotonic(), status))

    def last(self) -> LoopStatus:
        assert self.beats, "the loop never reported"
        return self.beats[-1].status

    def close(self) -> None:
        self._ending.set()
        self.join(5)
        self._client.close()


class ControlPlane:
    """Celery workers and beats that a test starts, signals and ends."""

    def __init__(self, folder: Path, site: Site, server: RedisServer, database: Database) -> None:
        self.folder, self.site, self.redis, self.database = folder, site, server, database
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._prefix = "faults-paced:"
        self.watcher = Watcher(server.url, f"{self._prefix}loop:status")
        self.watcher.start()
        self._run_to_end("-m", "tests.faults.seed_database", POOL, *NAMES)

    # ---------------------------------------------------------------- processes

    def environment(self, **more: str) -> dict[str, str]:
        return child_environment(
            {
                "PYTHONPATH": str(ROOT),
                "DJANGO_SETTINGS_MODULE": "console.settings.development",
                "LLUMDECK_STATE_DIR": str(self.folder / "state"),
                "DATABASE_URL": self.database.url,
                "REDIS_URL": self.redis.url,
                "LLUMDECK_REDIS_PREFIX": self._prefix,
                "RAY_ADDRESS": "127.0.0.1:1",
                "LLUMDECK_TICK_INTERVAL_MS": str(int(1e3 * INTERVAL_S)),
                "LLUMDECK_LEASE_TTL_MS": str(int(1e3 * LEASE_TTL_S)),
                "FAULTS_FOLDER": str(self.folder),
                **more,
            }
        )

    def worker(self, name: str, **more: str) -> None:
        """A real worker of the queue ``loop``."""
        options = ("-Q", "loop", "--pool", "threads", "--concurrency", "2", "-n", f"{name}@%h")
        self._start(
            name, ("worker", *options, "--loglevel", "INFO", "--without-mingle", "--without-gossip"), more
        )

    def beat(self, name: str, **more: str) -> None:
        schedule = str(self.folder / f"{name}.schedule")
        self._start(name, ("beat", "--schedule", schedule, "--pidfile", ""), more)

    def _start(self, name: str, words: Sequence[str], more: dict[str, str]) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.faults.celery_app", *words],
            cwd=ROOT,
            env=self.environment(**more),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def end(self, *names: str) -> None:
        for name in names or tuple(self.processes):
            process = self.processes.pop(name)
            process.kill()
            process.wait(timeout=30)

    def _run_to_end(self, *words: str) -> None:
        subprocess.run([sys.executable, *words], cwd=ROOT, env=self.environment(), check=True, timeout=120)

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes[name].pid, number)

    def leader(self) -> str:
        """The name of the worker that leads, by its process id."""
        pid = int(self.watcher.last().leader.split(":")[1])
        return next((name for name, process in self.processes.items() if process.pid == pid), "")

    def order(self, what: str, text: str = "") -> None:
        """Strike in the middle of the leader's next commands; see :mod:`tests.faults.celery_app`."""
        path = self.folder / f"{what}.new"
        path.write_text(text)
        path.rename(self.folder / what)

    def taken(self, what: str) -> bool:
        return (self.folder / f"{what}.taken").exists()

    def clear_orders(self) -> None:
        for path in (*self.folder.glob("*-after*"), *self.folder.glob("*-before*")):
            path.unlink()

    # ---------------------------------------------------------------- the loop

    def wait_ticking(self, ticks: int = 3) -> None:
        """The loop ticks now, so many times more."""
        seen = len(self.watcher.beats)
        wait_until(lambda: len(self.watcher.beats) >= seen + ticks, "the loop to tick")

    def back_after(self, healed_s: float, epoch: int = -1) -> float:
        """Milliseconds from then to the loop's first good tick (of a later epoch, where one is given)."""

        def first() -> Beat | None:
            beats = (each for each in self.watcher.beats if each.at_s >= healed_s)
            return next((each for each in beats if each.status.epoch > epoch), None)

        wait_until(first, "the loop to be back")
        beat = first()
        assert beat is not None
        return 1e3 * (beat.at_s - healed_s)

    def tell_doors(self) -> None:
        doors = {name: agent._control for name, agent in self.site.procs.items()}
        path = self.folder / "doors.new"
        path.write_text(json.dumps(doors))
        path.rename(self.folder / "doors.json")

    def drain(self, *names: str) -> None:
        """What the console's button does to the row: these are to be emptied, the others to take work."""
        self.database.wish_accepting({name: name not in names for name in NAMES})

    # ---------------------------------------------------------------- what happened

    def outcomes(self) -> list[MigrationOutcome]:
        rows: Any = self.site.redis.xrange(f"{self._prefix}migrations")
        return [
            msgspec.msgpack.decode(value, type=MigrationOutcome) for _, row in rows for value in row.values()
        ]

    def refused(self) -> int:
        """Commands of older epochs that agents refused, so far."""
        found = 0
        for agent in self.site.procs.values():
            if agent.alive() and not agent.is_stopped():
                found += agent.ask("counters").get("stale_epochs", 0)
        return found

    def logs(self) -> str:
        """For people, after a failure."""
        lease = self.site.redis.get(f"{self._prefix}loop:lease")
        lives = {name: process.poll() for name, process in self.processes.items()}
        print(f"lease {lease!r}, processes {lives}, last {self.watcher.beats[-1:]}")
        paths = [self.folder / f"{name}.log" for name in self.processes]
        return "\n".join(f"=== {path.name}\n{path.read_text()[-3000:]}" for path in paths)

    def close(self) -> None:
        self.watcher.close()
        self.end()


def double_moves(outcomes: Sequence[MigrationOutcome]) -> int:
    """Moves of a request that began while another move of it was under way, or that were done twice."""
    under_way: dict[str, str] = {}
    done: Counter[str] = Counter()
    twice = 0
    for each in outcomes:
        if each.state in ("done", "aborted"):
            done[each.migration_id] += each.state == "done"
            if under_way.get(each.request_id) == each.migration_id:
                del under_way[each.request_id]
        elif under_way.setdefault(each.request_id, each.migration_id) != each.migration_id:
            twice += 1
            under_way[each.request_id] = each.migration_id
    return twice + sum(count - 1 for count in done.values() if count > 1)


class ControlStage(Stage):
    """Trials on a data plane that a real control plane runs."""

    def __init__(self, site: SlowSite, plane: ControlPlane, *, tokens: int, step_ms: float) -> None:
        super().__init__(site)
        self.plane = plane
        self.shapes = shapes(tokens)
        self.oracle = Oracle(site)
        site.rules = replace(
            site.rules,
            config=SchedulingConfig.for_policy(
                "least_outstanding", dispatch={"staleness_limit_s": STALE_AFTER_S}
            ),
        )
        self._prepare(site, step_ms)

    def _prepare(self, site: SlowSite, step_ms: float) -> None:
        """What undisturbed runs give is found at speed: tokens do not depend on it."""
        site.start("a")
        wait_until(site.ready, "an agent to serve")
        site.wait_usable("a")
        self.oracle.prepare([Ask(shape, salt) for shape in self.shapes for salt in range(3)])
        site.procs["a"].kill()
        site.step_ms = step_ms
        self._all_serve()

    def _all_serve(self) -> None:
        self.site.cast(len(NAMES), random.Random(0))
        self.plane.tell_doors()

    @contextmanager
    def ruled(self, matrix: Any, case: int, title: str, seed: int, **more: Any) -> Iterator[Scene]:
        """A trial in which the loop runs before and after; moves and refusals are counted."""
        plane = self.plane
        plane.clear_orders()
        self._all_serve()
        plane.drain()
        plane.wait_ticking()
        self._wait_accepting()
        self._before = (len(plane.outcomes()), plane.refused())
        with self.trial(matrix, case, title, seed, agents=len(NAMES), **more) as scene:
            try:
                yield scene
            except BaseException:
                print(plane.logs())
                raise
            plane.drain()
        plane.wait_ticking()

    def _judge(self, scene: Scene) -> None:
        super()._judge(scene)
        moves, refused = self._before
        outcomes = self.plane.outcomes()
        since = outcomes[moves:] if len(outcomes) >= moves else outcomes
        doubles = double_moves(since)
        # Agents that were killed in the trial took their count with them.
        counted = max(0, self.plane.refused() - refused)
        scene.trial.note(double_moves=doubles, refused_epochs=counted)
        scene.trial.wrong += doubles

    def _wait_accepting(self) -> None:
        def all_do() -> bool:
            try:
                return all(self.site.procs[name].ask("describe")["accepting"] for name in NAMES)
            except AgentGoneError:
                return False

        wait_until(all_do, "every agent to accept work")

    def _check_epochs(self, site: Site) -> None:
        """Here the loop owns the epochs; what it refuses is counted by :meth:`ruled`."""
