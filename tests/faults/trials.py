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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from controlplane.gateway.entries import Entry
from engine_agents.messages import MigrateOut
from tests.faults.agents import Agent, wait_until
from tests.faults.load import SHAPES, Answer, Ask, compare, draw
from tests.faults.matrix import Matrix, Trial
from tests.faults.relay import Relay
from tests.faults.site import RESERVATION_TTL_S, Site

FREED_WITHIN_S = RESERVATION_TTL_S + 12.0
"""A reservation's life, and a busy machine's leisure."""
STREAMS = 8
MOVES_TRIED = 4


class Oracle:
    """What undisturbed runs of the same requests gave; each is run once, alone."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[tuple[str, int, str], Answer] = {}

    def prepare(self, asks: Sequence[Ask]) -> None:
        missing = {ask.key: ask for ask in asks if ask.key not in self._known}
        for key, answer in zip(missing, self._site.ask_all(list(missing.values())), strict=True):
            assert answer.error is None and answer.done, answer
            self._known[key] = answer

    def of(self, ask: Ask) -> Answer:
        return self._known[ask.key]


@dataclass
class Scene:
    """What a trial's body works with."""

    site: Site
    trial: Trial
    rng: random.Random
    cast: Sequence[str]
    answers: list[Answer] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    """Requests that the test itself chose."""
    fault_at_s: float = 0.0
    expected_errors: int = 0

    def struck(self) -> None:
        """The fault happens now: gaps count from here."""
        self.fault_at_s = time.monotonic()

    def wait_tokens(self, least: int) -> None:
        """Until so many tokens have been streamed in all."""
        wait_until(lambda: sum(answer.count for answer in self.answers) >= least, f"{least} tokens")

    @property
    def source(self) -> str:
        return self.cast[0]

    @property
    def destination(self) -> str:
        return self.cast[1]

    @property
    def third(self) -> str:
        return self.cast[2]

    def agent(self, role: str) -> Agent:
        """``source``, ``destination`` or ``third``."""
        return self.site.procs[getattr(self, role)]

    def gateway_ids(self) -> tuple[str, str]:
        return ("gw-test", self.site.process.incarnation)

    def relay(self) -> Relay:
        """In front of the destination, for the source, which sends everything through it."""
        self.agent("source").ask("with_messages")
        return self.site.relay_to(self.agent("destination").ask("describe")["peer_endpoint"])

    def pick(self, *, tokens: tuple[int, int] = (1, 120)) -> Entry:
        """A request that runs on the source."""
        entry = self.site.pick(self.rng, self.source, tokens=tokens)
        self.touched.add(entry.request_id)
        return entry

    def move_from_owner(self, entry: Entry) -> str:
        """To the other of the two; whoever owns it is the source from now on."""
        if entry.owner_id == self.destination:
            self.cast = [self.destination, self.source, *self.cast[2:]]
        return self.move(entry)

    def move(self, entry: Entry, *, via: Relay | None = None) -> str:
        """From source to destination; the migration's id."""
        return self.site.command(entry, self.source, self.destination, via=via)

    def leaver(self) -> Leaver:
        """One more client, who will leave; its request must not be missed by anybody."""
        return Leaver(self.site, self.rng)

    def move_until(self, role: str, point: str, via: Relay | None = None) -> str:
        """Move requests until one of them gets as far as this failpoint; that migration's id."""
        for _ in range(MOVES_TRIED):
            with suppress(ValueError):  # it has ended meanwhile
                migration_id = self.move(self.pick(tokens=(1, 60)), via=via)
                if self._gets_to(role, point, migration_id):
                    return migration_id
        raise AssertionError(f"none of {MOVES_TRIED} moves came to {point}")

    def _gets_to(self, role: str, point: str, migration_id: str) -> bool:
        agent, site = self.agent(role), self.site

        def reached() -> bool:
            return bool(agent.ask("hits").get(point, 0))

        def over() -> bool:
            return any(one.state in ("done", "aborted") for one in site.outcomes(migration_id))

        wait_until(lambda: reached() or over(), f"{point} at the {role}", limit_s=30)
        return reached()

    def dies(self, role: str) -> None:
        """It does, by what was armed."""
        wait_until(lambda: not self.agent(role).alive(), f"the {role} to die", limit_s=30)

    def reaches(self, role: str, point: str, times: int = 1) -> None:
        """Until a failpoint that has a rule was reached so often."""
        agent = self.agent(role)
        wait_until(lambda: agent.ask("hits").get(point, 0) >= times, f"{point} at the {role}", limit_s=30)

    def somewhere(self) -> None:
        """A random moment early in the run."""
        self.wait_tokens(self.rng.randrange(30, 60 * len(self.answers)))


class Leaver:
    """A stream of its own, ended by :meth:`leave`."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site = site
        self._answer = Answer(Ask(SHAPES[1], rng.randrange(3)))
        self._running = site.stream_one(self._answer)
        wait_until(lambda: self._answer.count > 3, "the leaver's first tokens")

    @property
    def entry(self) -> Entry:
        return next(e for e in self._site.entries() if self._answer.request_id in e.request_id)

    def leave(self) -> None:
        self._running.cancel()


class Stage:
    """A site and its oracle; makes trials."""

    def __init__(self, site: Site, salts: int = 1) -> None:
        """``salts``: so many prompts per shape; each costs a run of the oracle."""
        self.site, self.oracle = site, Oracle(site)
        self.salts = salts
        self.shapes = [shape for shape in SHAPES if site.kind == "vllm" or not shape.vllm_only]

    def asks(self, rng: random.Random, count: int = STREAMS) -> list[Ask]:
        return draw(rng, count, self.shapes, self.salts)

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
            scene = Scene(site, trial, rng, cast)
            issued = Dispatches(site)
            try:
                with site.streaming(asks) as scene.answers:
                    yield scene
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


class Dispatches:
    """Listens to every dispatch number that the gateway's journal gives out."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._given: Counter[tuple[str, int]] = Counter()
        journal = site.gateway.journal
        self._journal, self._issue = journal, journal._issue
        site.loop.call(setattr, journal, "_issue", self._listen)

    def _listen(self, entry):
        number = self._issue(entry)
        self._given[(entry.request_id, number)] += 1
        return number

    def given_twice(self) -> int:
        return sum(count - 1 for count in self._given.values())

    def close(self) -> None:
        self._site.loop.call(setattr, self._journal, "_issue", self._issue)
