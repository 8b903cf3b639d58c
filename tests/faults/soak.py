"""``make soak MINUTES=10``: hours of operation in minutes. Random faults under load, and I1 to I7 all along.

    python -m tests.faults.soak --minutes 10 [--seed 1] [--every 20] [--json FILE]

Rounds of streamed requests follow each other without end while, every ``--every`` seconds on the
average, something breaks: an engine is killed, the leader is killed or stopped, Redis is killed,
emptied or paused, the database is locked, instances are drained. The seed decides what and when. Ends
with status 1 when a token was lost, repeated or wrong, a request hung or failed, a block leaked, a
request was moved twice at once, a recorded round is decided otherwise by the core, the loop did not
come back, or the gateway keeps something of every request. What was counted is written after every
round and at the end, however it ends; one Ctrl-C (or SIGTERM) ends the load and looks at what is left,
status 130.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import django
import psutil
from django.conf import settings

from tests.census import census, grown

RECOVERY_LIMIT_S = 60.0
STREAMS = 10
INTERRUPTED_STATUS = 130
GATEWAYS = ("controlplane.gateway.", "engine_agents.", "vllm.v1.engine.")
"""Whose objects in this process are the gateway's."""


@dataclass
class Found:
    """What the soak saw; :attr:`MUST_BE_ZERO` names what is damage."""

    ended: str = "not yet"
    """``in time``, ``interrupted``, or ``broken`` and why."""
    seconds: float = 0.0
    rounds: int = 0
    requests: int = 0
    tokens: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    failed: int = 0
    two_owners: int = 0
    leaked: int = 0
    double_moves: int = 0
    loop_not_back: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    migrations_done: int = 0
    refused_epochs: int = 0
    epochs: int = 0
    loop_back_p99_ms: float = 0.0
    longest_gap_ms: float = 0.0
    rounds_replayed: int = 0
    rounds_decided_otherwise: int = 0
    rss_first_mib: float = 0.0
    """Of this process, after the first round: gateway, clients, oracle and all that the soak remembers."""
    rss_last_mib: float = 0.0
    grown: dict[str, int] = field(default_factory=dict)
    """What of the gateway's became more with the requests; see :mod:`tests.census`."""

    MUST_BE_ZERO = (
        "lost",
        "duplicated",
        "wrong",
        "failed",
        "two_owners",
        "leaked",
        "double_moves",
        "loop_not_back",
        "rounds_decided_otherwise",
        "grown",
    )

    def told(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return {"good": self.good(), **vars(self), "faults": dict(self.faults)}

    def good(self) -> bool:
        """No damage so far, and the soak itself did not break."""
        return not self.ended.startswith("broken") and not any(
            getattr(self, name) for name in self.MUST_BE_ZERO
        )

    def write(self, path: Path | None) -> None:
        """As JSON, whole or not at all."""
        if path is not None:
            scratch = path.with_name(f".{path.name}.new")
            scratch.write_text(json.dumps(self.told(), indent=2) + "\n")
            scratch.replace(path)


class Soak:
    """Load in the foreground, mischief in a thread of its own."""

    def __init__(self, stage, *, seed: int, every_s: float, found: Found, path: Path | None) -> None:
        self.stage, self.plane, self.site = stage, stage.plane, stage.site
        self.dice = random.Random(f"soak/{seed}")
        self.every_s = every_s
        self.found, self.path = found, path
        self._over = threading.Event()
        self._backs_ms: list[float] = []
        self._broken: BaseException | None = None
        self._before: Counter[str] = Counter()
        self.mischief: list[Callable[[], None]] = [
            self.an_engine_is_killed,
            self.an_engine_stands_still,
            self.the_leader_is_killed,
            self.the_leader_stands_still,
            self.redis_is_killed,
            self.redis_is_emptied,
            self.redis_is_paused,
            self.the_database_is_locked,
            self.instances_are_drained,
        ]

    def run(self, minutes: float) -> None:
        """Raises what broke the mischief or the looking at what is left."""
        began_s, found = time.monotonic(), self.found
        thread = threading.Thread(target=self._break_things, daemon=True)
        thread.start()
        try:
            while (so_far_s := time.monotonic() - began_s) < 60 * minutes and self._broken is None:
                self._round()
                if found.rounds == 1:
                    self._begin_to_compare()
                self._sum_up(so_far_s)
            ended = "in time"
        except KeyboardInterrupt:
            ended = "interrupted"
        self._over.set()
        thread.join(120)
        if self._broken is not None:
            raise self._broken
        self._sum_up(time.monotonic() - began_s)
        self._settle()
        found.grown = grown(self._before, self._kept(), max(STREAMS, found.requests // 2))
        found.refused_epochs = self.plane.refused()
        found.ended = ended

    def _sum_up(self, seconds: float) -> None:
        found = self.found
        found.seconds = round(seconds, 1)
        found.rss_last_mib = rss_mib()
        found.epochs = self.plane.watcher.last().epoch
        if self._backs_ms:
            found.loop_back_p99_ms = round(sorted(self._backs_ms)[int(0.99 * len(self._backs_ms))], 1)
        found.write(self.path)

    # ---------------------------------------------------------------- load

    def _round(self) -> None:
        """So many streams at once, each compared with its undisturbed run when all have ended (I1, I4)."""
        from tests.faults.load import compare

        asks = self.stage.asks(self.dice, STREAMS)
        with self.site.streaming(asks) as load:
            pass
        found = self.found
        found.rounds += 1
        for answer in load.answers:
            difference = compare(self.stage.oracle.of(answer.ask), answer)
            found.requests += 1
            found.tokens += answer.count
            found.lost += difference.lost
            found.duplicated += difference.duplicated
            found.wrong += difference.wrong
            found.failed += not answer.done
            found.longest_gap_ms = max(found.longest_gap_ms, round(answer.longest_gap_ms(0.0), 1))
            if not answer.done:
                print(f"failed: {answer.status} {answer.error}", flush=True)
        found.two_owners += sum(len(where) > 1 for where in self.site.owners().values())

    def _begin_to_compare(self) -> None:
        """The first requests bring much into memory that is there only once."""
        self.found.rss_first_mib = rss_mib()
        self._before = self._kept()

    def _kept(self) -> Counter[str]:
        """What the gateway keeps in this process, but for what it soon forgets anyway."""
        site = self.site
        for seen in (site.records, site.reports, site.uses, site.excess):
            seen.clear()
        an_hour_on_s = time.monotonic() + 3600.0
        site.loop.call(site.gateway.latency.report, an_hour_on_s, Counter(), {})
        return Counter({name: count for name, count in census().items() if name.startswith(GATEWAYS)})

    def _settle(self) -> None:
        """Afterwards everything is back: blocks (I3), the loop (I7); nobody moved anything twice (I5)."""
        from tests.faults.agents import wait_until
        from tests.faults.control_plane import NAMES, double_moves

        self.site.cast(len(NAMES), random.Random(0))
        self.plane.tell_doors()
        self.plane.drain()
        self.plane.wait_ticking()
        try:
            wait_until(lambda: not self.site.held(), "every block to be back", limit_s=30)
        except AssertionError:
            self.found.leaked = sum(sum(held.values()) for held in self.site.held().values())
        outcomes = self.plane.outcomes()
        self.found.double_moves += double_moves(outcomes)
        self.found.migrations_done += sum(one.state == "done" for one in outcomes)
        self._replay_rounds()

    def _replay_rounds(self) -> None:
        """Every recorded round, decided again by the core, says the same."""
        import sqlite3

        from controlplane.rebalancing.models import RebalanceRound
        from controlplane.rebalancing.services import replay_round

        connection = sqlite3.connect(self.plane.database.path, timeout=30)
        query = "select snapshot, state_before, config, decisions from rebalancing_rebalanceround"
        for snapshot, state, config, decisions in connection.execute(query):
            row = RebalanceRound(
                snapshot=json.loads(snapshot),
                state_before=json.loads(state),
                config=json.loads(config),
                decisions=json.loads(decisions),
            )
            self.found.rounds_replayed += 1
            self.found.rounds_decided_otherwise += not replay_round(row).same
        connection.close()

    # ---------------------------------------------------------------- mischief

    def _break_things(self) -> None:
        try:
            while not self._over.wait(self.dice.uniform(0.5, 1.5) * self.every_s):
                what = self.dice.choice(self.mischief)
                self.found.faults[what.__name__] += 1
                print(f"{time.strftime('%H:%M:%S')} {what.__name__.replace('_', ' ')}", flush=True)
                what()
                self._loop_is_back()
        except BaseException as error:
            self._broken = error

    def _loop_is_back(self) -> None:
        """I7, after every fault."""
        try:
            self._backs_ms.append(self.plane.back_after(time.monotonic()))
        except AssertionError:
            self.found.loop_not_back += 1

    def an_engine_is_killed(self) -> None:
        name = self.dice.choice(self.site.ready())
        self.site.procs[name].kill()
        self.site.start(name)
        self.site.procs[name].wait_ready()
        self.plane.tell_doors()

    def an_engine_stands_still(self) -> None:
        agent = self.site.procs[self.dice.choice(self.site.ready())]
        agent.stop()
        time.sleep(self.dice.uniform(1.0, 3.0))
        agent.go_on()

    def the_leader_is_killed(self) -> None:
        leader, epoch = self.plane.leader(), self.plane.watcher.last().epoch
        if leader:
            self.plane.end(leader)
            self.plane.worker(leader)
            self.plane.back_after(time.monotonic(), epoch)

    def the_leader_stands_still(self) -> None:
        leader = self.plane.leader()
        if leader:
            self.plane.signal(leader, signal.SIGSTOP)
            time.sleep(self.dice.uniform(2.0, 4.0))
            self.plane.signal(leader, signal.SIGCONT)

    def redis_is_killed(self) -> None:
        self._keep_outcomes()
        self.plane.redis.kill()
        time.sleep(self.dice.uniform(0.5, 5.0))
        self.plane.redis.start()

    def redis_is_emptied(self) -> None:
        self._keep_outcomes()
        self.plane.redis.empty()

    def redis_is_paused(self) -> None:
        pause_s = self.dice.uniform(1.0, 10.0)
        self.plane.redis.pause(pause_s)
        time.sleep(pause_s)

    def the_database_is_locked(self) -> None:
        with self.plane.database.locked():
            time.sleep(self.dice.uniform(1.0, 10.0))

    def instances_are_drained(self) -> None:
        from tests.faults.control_plane import NAMES

        self.plane.drain(*self.dice.sample(NAMES, self.dice.choice([1, 2])))
        time.sleep(self.dice.uniform(2.0, 5.0))
        self.plane.drain()

    def _keep_outcomes(self) -> None:
        """What is in the stream now may be gone soon: judged before."""
        from tests.faults.control_plane import double_moves

        outcomes = self.plane.outcomes()
        self.found.double_moves += double_moves(outcomes)
        self.found.migrations_done += sum(one.state == "done" for one in outcomes)
        self.site.redis.delete("faults-paced:migrations")


def rss_mib() -> float:
    """Of this process, in which the gateway runs; not what is free and only kept by the allocator."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return round(psutil.Process().memory_info().rss / 2**20, 1)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between faults, on the average")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    from console.settings import test

    settings.configure(**{name: getattr(test, name) for name in dir(test) if name.isupper()})
    django.setup()
    found = Found()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        soak(options, found)
    except (Exception, KeyboardInterrupt) as error:
        traceback.print_exc()
        found.ended = f"broken: {type(error).__name__}: {error}"
    finally:
        print(json.dumps(found.told(), indent=2), flush=True)
        found.write(options.json)
    if not found.good():
        return 1
    return 0 if found.ended == "in time" else INTERRUPTED_STATUS


def soak(options: argparse.Namespace, found: Found) -> None:
    from engine_agents.vllm_engine.frontend import build_front_half
    from engine_agents.vllm_engine.tiny_model import make_tiny_model
    from tests.faults.control_plane import ControlPlane, ControlStage, SlowSite
    from tests.faults.database import SqliteFile
    from tests.faults.redis_server import RedisServer

    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        make_tiny_model(folder / "tiny")
        server = RedisServer(folder)
        site = SlowSite("paced", folder / "tiny", build_front_half, server.url, folder)
        plane = ControlPlane(folder, site, server, SqliteFile(folder))
        for worker in ("w1", "w2"):
            plane.worker(worker)
        plane.beat("beat")
        try:
            stage = ControlStage(site, plane, tokens=200, step_ms=25.0)
            plane.wait_ticking()
            soak = Soak(stage, seed=options.seed, every_s=options.every, found=found, path=options.json)
            soak.run(options.minutes)
        finally:
            plane.close()
            site.close()
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
