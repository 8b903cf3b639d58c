"""What a trial's body works with: who plays which part, moments to strike at, and moves until it has struck.

Nothing here depends on how fast the machine is. A command that is refused (its request has just ended)
and a migration that ends before the fault could strike (so did its request, or it was preempted) are
tries that did not work: the load lasts, so there is always another request to try with.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controlplane.gateway.entries import Entry
from engine_agents.messages import MigrationOutcome
from tests.faults.agents import Agent, AgentGoneError, wait_until
from tests.faults.dispatches import Dispatches
from tests.faults.load import SHAPES, Answer, Ask, Load
from tests.faults.matrix import Trial
from tests.faults.relay import Relay
from tests.faults.site import Site

TRYING_LIMIT_S = 120.0
EARLY = (1, 120)
"""Tokens made: of 220 that most requests make, so that there is time for a move."""


def nothing(entry: Entry) -> None:
    """What is done to a request before it moves."""


@dataclass
class Scene:
    """One trial's cast, load and record."""

    site: Site
    trial: Trial
    rng: random.Random
    cast: Sequence[str]
    load: Load
    dispatches: Dispatches
    touched: set[str] = field(default_factory=set)
    """Requests that the test itself chose."""
    fault_at_s: float = 0.0
    expected_errors: int = 0
    _latest: str = ""
    """The migration that was commanded last."""

    # ---------------------------------------------------------------- who

    @property
    def answers(self) -> list[Answer]:
        """Of every stream so far; there will be more until :meth:`no_new_streams`."""
        return self.load.answers

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

    def leaver(self) -> Leaver:
        """One more client, who will leave; its request must not be missed by anybody."""
        return Leaver(self.site, self.rng)

    # ---------------------------------------------------------------- when

    def struck(self) -> None:
        """The fault happens now: gaps count from here."""
        self.fault_at_s = time.monotonic()

    def somewhere(self) -> None:
        """A random moment."""
        self.wait_tokens(self.rng.randrange(30, 480))

    def wait_tokens(self, least: int) -> None:
        """Until so many tokens have been streamed in all."""
        wait_until(lambda: sum(answer.count for answer in self.answers) >= least, f"{least} tokens")

    def no_new_streams(self) -> None:
        """Those that are open are the last."""
        self.site.let_end(self.load)

    def hits(self, role: str, point: str) -> int:
        """How often a failpoint that has a rule was reached."""
        return int(self.agent(role).ask("hits").get(point, 0))

    def dies(self, role: str) -> None:
        """It does, by what was armed."""
        wait_until(lambda: not self.agent(role).alive(), f"the {role} to die", limit_s=60)

    # ---------------------------------------------------------------- moves

    def pick(self, *, tokens: tuple[int, int] = EARLY) -> Entry:
        """A request that runs on the source."""
        entry = self.site.pick(self.rng, self.source, tokens=tokens)
        self.touched.add(entry.request_id)
        return entry

    def move(self, entry: Entry, *, via: Relay | None = None) -> str:
        """From source to destination; the migration's id. Raises ``ValueError`` when it is refused."""
        return self.site.command(entry, self.source, self.destination, via=via)

    def move_until(
        self,
        struck: Callable[[], object],
        what: str,
        *,
        tokens: tuple[int, int] = EARLY,
        via: Relay | None = None,
    ) -> str:
        """Move requests until, while one of them is under way, this holds; that migration's id."""
        return self._try(struck, what, nothing, tokens, via)

    def move_to(self, role: str, point: str, via: Relay | None = None) -> str:
        """Move requests until one of them gets as far as this failpoint; that migration's id."""
        return self.move_until(lambda: self.hits(role, point), f"{point} at the {role}", via=via)

    def move_until_ended(
        self,
        good: Callable[[MigrationOutcome], object],
        what: str,
        *,
        prepare: Callable[[Entry], None] = nothing,
        tokens: tuple[int, int] = EARLY,
        via: Relay | None = None,
    ) -> MigrationOutcome:
        """Move one request after the other until a migration has ended like this."""
        ended: list[MigrationOutcome] = []

        def is_good() -> bool:
            ended[:] = self.ended(self._latest)
            return bool(ended) and bool(good(ended[0]))

        self._try(is_good, what, prepare, tokens, via)
        return ended[0]

    def ended(self, migration_id: str) -> list[MigrationOutcome]:
        """How it ended, if it has."""
        return [one for one in self.site.outcomes(migration_id) if one.state in ("done", "aborted")]

    def _try(
        self,
        struck: Callable[[], object],
        what: str,
        prepare: Callable[[Entry], None],
        tokens: tuple[int, int],
        via: Relay | None,
    ) -> str:
        in_vain: Counter[str] = Counter()
        deadline_s = time.monotonic() + TRYING_LIMIT_S
        while time.monotonic() < deadline_s:
            entry = self.pick(tokens=tokens)
            prepare(entry)
            try:
                self._latest = self.move(entry, via=via)
            except ValueError as refusal:
                in_vain[str(refusal)] += 1
                continue
            except AgentGoneError:
                if struck():  # by the move before this one, just after that had ended
                    return self._latest
                raise
            over: list[MigrationOutcome] = []
            while not over:
                # In this order: what has struck by the end of the migration was seen.
                over = self.ended(self._latest)
                if struck():
                    return self._latest
                assert time.monotonic() < deadline_s, f"{self._latest} neither came to {what} nor ended"
                time.sleep(0.01)
            in_vain[f"{over[0].state}: {over[0].reason}"] += 1
        raise AssertionError(f"no move came to {what}: {dict(in_vain)}")


class Leaver:
    """A stream of its own, ended by :meth:`leave`."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site = site
        self._answer = Answer(Ask(SHAPES[1], rng.randrange(3)))
        self._running = site.stream_one(self._answer)
        wait_until(lambda: self._answer.count > 3, "the leaver's first tokens")

    @property
    def entry(self) -> Entry | None:
        """``None`` when it has ended."""
        return next((e for e in self._site.entries() if self._answer.request_id in e.request_id), None)

    def leave(self) -> None:
        self._running.cancel()
