"""One trial: load, a fault in the middle of it, and then the invariants by an oracle of its own.

I1 every token, text, usage, finish reason and log-probability is that of an undisturbed run; I2 no request
has two owners once the fault has been dealt with, no dispatch number is given out twice; I3 every block and
reservation is back in time; I4 every request ends; I5 commands of an older epoch are refused.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from engine_agents.messages import MigrateOut
from tests.faults.agents import wait_until
from tests.faults.dispatches import Dispatches
from tests.faults.load import SHAPES, Answer, Ask, compare, draw, late_words
from tests.faults.matrix import Matrix
from tests.faults.scene import Scene
from tests.faults.site import RESERVATION_TTL_S, Site

FREED_WITHIN_S = RESERVATION_TTL_S + 12.0
"""A reservation's life, and a busy machine's leisure."""
STREAMS = 8
LEAST_STEP_MS = 12.0
"""So long an engine's step takes at least while the fault is brought about: on a fast machine, too, a
request lasts for seconds."""


class Oracle:
    """What undisturbed runs of the same requests gave; each is run once, alone."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[tuple[str, int, str], Answer] = {}

    def with_stops(self, asks: Sequence[Ask]) -> list[Ask]:
        """Where a shape wants it, a stop string that this machine's undisturbed run comes to late."""
        self.prepare([ask for ask in asks if ask.shape.stops])
        asks = [
            replace(ask, stop=late_words(self.of(ask).choices[0].text)) if ask.shape.stops else ask
            for ask in asks
        ]
        self.prepare(asks)
        for ask in asks:
            assert not ask.stop or self.of(ask).choices[0].finish_reason == "stop", ask
        return asks

    def prepare(self, asks: Sequence[Ask]) -> None:
        missing = {ask.key: ask for ask in asks if ask.key not in self._known}
        for key, answer in zip(missing, self._site.ask_all(list(missing.values())), strict=True):
            assert answer.error is None and answer.done, answer
            self._known[key] = answer

    def of(self, ask: Ask) -> Answer:
        return self._known[ask.key]


class Stage:
    """A site and its oracle; makes trials."""

    def __init__(self, site: Site, salts: int = 1) -> None:
        """``salts``: so many prompts per shape; each costs a run of the oracle."""
        self.site, self.oracle = site, Oracle(site)
        self.salts = salts
        self.shapes = [shape for shape in SHAPES if site.kind == "vllm" or not shape.vllm_only]

    def asks(self, rng: random.Random, count: int = STREAMS) -> list[Ask]:
        return self.oracle.with_stops(draw(rng, count, self.shapes, self.salts))

    @contextmanager
    def trial(
        self,
        matrix: Matrix,
        case: int,
        title: str,
        seed: int,
        *,
        agents: int = 2,
        asks: Sequence[Ask] = (),
        must_be_clean: bool = True,
    ) -> Iterator[Scene]:
        """Load runs while the body does its mischief; afterwards everything is checked."""
        site, rng = self.site, random.Random(f"{case}/{title}/{seed}")
        cast = site.cast(agents, rng)
        for name in site.ready():
            site.procs[name].ask("set_accepting", name in cast, site.epoch)
        asks = asks or self.asks(rng)
        self.oracle.prepare(asks)
        wait_until(lambda: not site.held(), f"nothing to be held: {site.held()}", limit_s=30)
        title = f"{title} [{site.kind}]"
        with matrix.trial(case, title, seed, must_be_clean=must_be_clean) as trial:
            issued = Dispatches(site)
            try:
                site.pace(LEAST_STEP_MS)
                with site.streaming(asks, lasting=True) as load:
                    scene = Scene(site, trial, rng, cast, load, issued)
                    yield scene
                    site.pace(0.0)
                self._judge(scene)
                trial.wrong += issued.given_twice()
            finally:
                issued.close()
                site.disarm()

    def _judge(self, scene: Scene) -> None:
        trial, site = scene.trial, scene.site
        trial.requests += len(scene.answers)
        errors = 0
        for answer in scene.answers:
            errors += answer.error is not None
            found = compare(self.oracle.of(answer.ask), answer)
            if answer.error is not None and scene.expected_errors:
                # Cut short on purpose; but what was streamed is what the undisturbed run begins with.
                found, trial.failed = replace(found, lost=0), trial.failed - (not answer.done)
            trial.lost += found.lost
            trial.duplicated += found.duplicated
            trial.wrong += found.wrong
            trial.failed += not answer.done
            if not answer.done:
                print(f"{answer.ask.key}: {answer.broken or answer.error}")
        trial.failed += max(0, errors - scene.expected_errors)
        self._measure(scene)
        self._check_leaks(scene)
        self._check_epochs(site)

    def _measure(self, scene: Scene) -> None:
        """Pauses of the clients that the fault touched, by the records of their requests."""
        ids = {answer.request_id: answer for answer in scene.answers if answer.request_id}
        site = scene.site

        def recorded() -> bool:
            return all(any(one in record.request_id for record in site.records) for one in ids)

        wait_until(recorded, "the requests' records", limit_s=30)
        touched: Counter[str] = Counter()
        for record in site.records:
            owner = next((one for one in ids if one in record.request_id), None)
            if owner is None:
                continue
            if record.moves or record.recoveries or record.request_id in scene.touched:
                touched[owner] += 1
                scene.trial.note(moves=record.moves, recoveries=record.recoveries)
        if scene.fault_at_s:
            scene.trial.gaps_ms += [ids[one].longest_gap_ms(scene.fault_at_s) for one in touched]

    def _check_leaks(self, scene: Scene) -> None:
        site = scene.site
        began_s = time.monotonic()
        while (left := site.held()) and time.monotonic() - began_s < FREED_WITHIN_S:
            time.sleep(0.02)
        scene.trial.note(freed_ms=round(1e3 * (time.monotonic() - began_s)))
        scene.trial.leaked += sum(sum(held.values()) for held in left.values())
        if left:
            print(f"still held: {left}")
        owners = {name: where for name, where in site.owners().items() if len(where) > 1}
        scene.trial.wrong += len(owners)

    def _check_epochs(self, site: Site) -> None:
        """Whoever lost the lease is refused everywhere."""
        site.epoch += 1
        for name in site.ready():
            agent = site.procs[name]
            assert agent.ask("set_accepting", True, site.epoch)
            before = agent.ask("counters").get("stale_epochs", 0)
            old = MigrateOut(
                migration_id="old",
                destination_instance_id="x",
                destination_peer_endpoint="tcp://127.0.0.1:1",
                rule="load",
                lease_epoch=site.epoch - 1,
                budget_tokens=1,
            )
            assert not agent.migrate_out(old).accepted
            assert agent.ask("counters")["stale_epochs"] == before + 1
