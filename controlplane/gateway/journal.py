"""The journal: every token of every live request, and who may make the next one.

Pure: no IO, no clock (``now_s`` is an argument), no vLLM. It is the judge of the
hand-over: it issues dispatch numbers, accepts tokens of exactly one dispatch at
contiguous positions, and says in :class:`Effects` what must be delivered to the
client's side and done to agents. Whatever agents send, in whatever order, twice
or not at all, a client sees every token once.

A request's dispatch numbers grow: ``owner`` is the one whose tokens count, and at
most one more, ``pending``, has been granted to a live migration's destination.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from controlplane.gateway.entries import (
    AbortAt,
    Effects,
    Entry,
    Finished,
    OutputEditor,
    Pending,
    Recover,
    Suspicion,
)
from engine_agents.messages import GrantMove, engine_id, split_engine_id

ADOPTION_GRACE_S = 0.25
"""A source died in mid-migration: so long may its destination take to say that it adopted."""
GAP_LIMIT_S = 1.0
"""So long the last tokens of a source may take after its destination adopted."""
SUSPICION_S = 1.0
"""A destination was lost in mid-migration: from then on its source must make a token in every such span."""
SUSPICIOUS_SPANS = 30
"""A hand-over can come to its end so many spans after the gateway lost sight of the destination."""
FAILED_ENDINGS = frozenset({"abort", "error"})
"""Endings that no client asked for: the engine gave up, the request goes on elsewhere."""


class Journal:
    """All live requests of this gateway."""

    def __init__(self, editor: OutputEditor) -> None:
        self._editor = editor
        self._entries: dict[str, Entry] = {}
        self._owners: dict[str, Entry] = {}
        """By the owner's engine id: the common case of a step in one look-up."""
        self._pending: dict[str, Entry] = {}
        self._suspicions: dict[str, Suspicion] = {}
        self.counters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, request_id: str) -> Entry | None:
        return self._entries.get(request_id)

    # ---------------------------------------------------------------- life of a request

    def open(self, request_id: str, *, gap_closable: bool = True) -> Entry:
        """A new request. Raises ``ValueError`` for an id that is already live."""
        if request_id in self._entries:
            raise ValueError(f"request {request_id!r} is already live")
        entry = self._entries[request_id] = Entry(request_id, gap_closable)
        return entry

    def assign(self, request_id: str, instance_id: str) -> int:
        """Give the request to an instance under a new dispatch number, which is returned."""
        entry = self._entries[request_id]
        if entry.owner:
            raise ValueError(f"request {request_id!r} has an owner, dispatch {entry.owner}")
        self._own(entry, self._issue(entry), instance_id)
        entry.moved_from = 0
        return entry.owner

    def refused(self, refused_id: str) -> Entry | None:
        """An agent did not take an Add. The entry, now without owner, or ``None`` if that is old news."""
        entry = self._owners.get(refused_id)
        if entry is None:
            self.counters["stale_refusals"] += 1
            return None
        self._disown(entry)
        entry.instances.pop()
        return entry

    def take_back(self, owner_id: str) -> Effects | None:
        """Take a request from its owner to dispatch it anew; ``None`` where it is not (only) the owner's."""
        entry = self._owners.get(owner_id)
        if entry is None or entry.pending is not None:
            return None
        effects = Effects()
        self._revoke(entry, effects)
        return effects

    def close(self, request_id: str) -> tuple[Entry | None, Effects]:
        """The client's side is done with it (stop string, disconnect): abort it wherever it may run."""
        effects = Effects()
        entry = self._entries.get(request_id)
        if entry is not None:
            self._revoke(entry, effects)
            del self._entries[request_id]
        return entry, effects

    # ---------------------------------------------------------------- outputs

    def step(
        self, instance_id: str, engine_ids: Sequence[str], starts: Sequence[int], outputs: Sequence[Any]
    ) -> Effects:
        """Outputs of one engine step; ``starts[i]`` is the position of output i's first token."""
        effects = Effects()
        for incarnation, start, output in zip(engine_ids, starts, outputs, strict=True):
            entry = self._owners.get(incarnation)
            if entry is not None:
                self._accept(entry, start, output, effects)
            else:
                self._accept_other(instance_id, incarnation, start, output, effects)
        return effects

    def _accept(self, entry: Entry, start: int, output: Any, effects: Effects) -> None:
        """Tokens of the owner: exactly those that are not in the journal yet."""
        tokens = entry.tokens
        if start != len(tokens):
            if start > len(tokens):
                self.counters["gaps"] += 1
                self._recover(entry, f"tokens {len(tokens)} to {start - 1} were lost", effects)
                return
            known = min(len(tokens) - start, len(output.new_token_ids))
            self.counters["duplicate_tokens"] += known
            output = self._editor.trim(output, known)
        ending = output.finish_reason
        if ending is not None and str(ending) in FAILED_ENDINGS:
            failed_at = entry.owner_id if str(ending) == "error" else ""
            self._recover(entry, f"the engine ended it: {ending}", effects, failed_at)
            return
        if ending is None and not output.new_token_ids and start != len(tokens):
            return
        if entry.fresh_owner:
            entry.fresh_owner = False
            if tokens:
                output = self._editor.continued(output)
        tokens.extend(output.new_token_ids)
        output.request_id = entry.request_id
        effects.deliver.append(output)
        if ending is not None:
            self._finish(entry, str(ending), effects)
        elif entry.pending is not None and entry.pending.running:
            self._try_switch(entry, effects)

    def _accept_other(
        self, instance_id: str, incarnation: str, start: int, output: Any, effects: Effects
    ) -> None:
        """Not the owner's: held back for a pending move, else dropped and, where it must not run, aborted."""
        entry = self._pending.get(incarnation)
        if entry is not None and entry.pending is not None:
            pending = entry.pending
            pending.held.append((start, output))
            if not pending.running:
                pending.running, pending.start = True, start
            self._try_switch(entry, effects)
            return
        self.counters["stale_outputs"] += 1
        if output.finish_reason is None and not self._handed_over(incarnation):
            effects.actions.append(AbortAt(instance_id, incarnation))

    def _handed_over(self, incarnation: str) -> bool:
        """True for the source of a move that ended well: it is releasing the request by itself."""
        request_id, dispatch = split_engine_id(incarnation)
        entry = self._entries.get(request_id)
        return entry is not None and entry.moved_from == dispatch

    def _finish(self, entry: Entry, outcome: str, effects: Effects) -> None:
        if entry.pending is not None:
            self._revoke(entry, effects)
        else:
            self._disown(entry)
        del self._entries[entry.request_id]
        effects.actions.append(Finished(entry, outcome))

    # ---------------------------------------------------------------- moves

    def ask_move(self, instance_id: str, migration_id: str, asked_id: str, destination_id: str) -> GrantMove:
        """The answer to a source that wants to hand a request over; asking twice gets the same answer."""
        entry = self._owners.get(asked_id)
        if entry is None or entry.owner_gone or entry.owner_id != instance_id:
            return self._deny(migration_id, asked_id, "it is not yours, or it is over")
        if destination_id == entry.owner_id:
            return self._deny(migration_id, asked_id, "destination and source are the same instance")
        pending = entry.pending
        if pending is not None and pending.running:
            return self._deny(migration_id, asked_id, "it is being handed over already")
        if pending is None or pending.migration_id != migration_id:
            # A source runs one migration of a request at a time: asking for another says
            # that the earlier one is over, and its number must never come alive.
            self._unpend(entry)
            pending = Pending(migration_id, self._issue(entry), destination_id)
            entry.pending = pending
            self._pending[engine_id(entry.request_id, pending.dispatch)] = entry
        return GrantMove(
            migration_id=migration_id, engine_id=asked_id, granted=True, next_dispatch=pending.dispatch
        )

    def _deny(self, migration_id: str, asked_id: str, reason: str) -> GrantMove:
        self.counters["moves_denied"] += 1
        return GrantMove(migration_id=migration_id, engine_id=asked_id, granted=False, reason=reason)

    def adopted(
        self, instance_id: str, adopted_id: str, start: int, token_ids: list[int], now_s: float
    ) -> Effects:
        """A destination says that it runs the request from position ``start``."""
        effects = Effects()
        if adopted_id in self._owners:
            self.counters["duplicate_adoptions"] += 1
            return effects
        entry = self._pending.get(adopted_id)
        if entry is None or entry.pending is None:
            self.counters["stale_adoptions"] += 1
            effects.actions.append(AbortAt(instance_id, adopted_id))
            return effects
        known = min(len(entry.tokens), start)
        if len(token_ids) != start or token_ids[:known] != entry.tokens[:known]:
            self.counters["mismatched_adoptions"] += 1
            self._recover(entry, "the destination adopted other tokens than were delivered", effects)
            return effects
        pending = entry.pending
        pending.running, pending.start, pending.token_ids = True, start, token_ids
        if pending.deadline_s is None:
            pending.deadline_s = now_s + GAP_LIMIT_S
        if entry.owner_gone:
            self._close_gap(entry, effects)
        else:
            self._try_switch(entry, effects)
        return effects

    def _try_switch(self, entry: Entry, effects: Effects) -> None:
        """The destination becomes the owner once every token before its first one is in."""
        pending = entry.pending
        if pending is None or len(entry.tokens) < pending.start:
            return
        source = entry.owner
        self._unpend(entry)
        self._disown(entry)
        self._own(entry, pending.dispatch, pending.destination_id)
        entry.moved_from = source
        entry.moves += 1
        self.counters["moves"] += 1
        for start, output in pending.held:
            if self._owners.get(engine_id(entry.request_id, pending.dispatch)) is entry:
                self._accept(entry, start, output, effects)

    def _close_gap(self, entry: Entry, effects: Effects) -> None:
        """The source's last tokens will not come: take them from the destination's word, or recover."""
        pending = entry.pending
        assert pending is not None
        missing = (pending.token_ids or [])[len(entry.tokens) : pending.start]
        if len(entry.tokens) + len(missing) < pending.start or (missing and not entry.gap_closable):
            self._recover(entry, "the source's last tokens were lost", effects)
            return
        if missing:
            self.counters["gaps_closed"] += 1
            entry.tokens.extend(missing)
            effects.deliver.append(self._editor.tokens_only(entry.request_id, missing))
        self._try_switch(entry, effects)

    def ask_owner(self, request_id: str) -> tuple[int, Effects]:
        """The verdict for an agent in doubt: the dispatch number that may run, 0 when the request is over.

        An unproved move loses: its number is revoked, so that the answer stays true.
        """
        effects = Effects()
        entry = self._entries.get(request_id)
        if entry is None:
            return 0, effects
        pending = entry.pending
        if pending is None:
            return entry.owner, effects
        if pending.running:
            return pending.dispatch, effects
        effects.actions.append(
            AbortAt(pending.destination_id, engine_id(request_id, pending.dispatch)),
        )
        self._unpend(entry)
        return entry.owner, effects

    # ---------------------------------------------------------------- losses

    def instance_lost(self, instance_id: str, now_s: float) -> Effects:
        """An instance is gone: what it ran is recovered, what it was about to run stays where it is."""
        effects = Effects()
        for entry in self:
            pending = entry.pending
            if pending is not None and pending.destination_id == instance_id:
                if pending.running or entry.owner_gone:
                    self._recover(entry, f"instance {instance_id} is gone", effects)
                else:
                    self._unpend(entry)
                    self._suspect(entry, SUSPICIOUS_SPANS, now_s)
            elif entry.owner and entry.owner_id == instance_id and not entry.owner_gone:
                self._owner_lost(entry, now_s, effects)
        return effects

    def _suspect(self, entry: Entry, spans: int, now_s: float) -> None:
        """The lost destination may have adopted it unheard; then its source has let it go in silence."""
        suspicion = Suspicion(entry, entry.owner, len(entry.tokens), now_s + SUSPICION_S, spans)
        self._suspicions[entry.request_id] = suspicion

    def _check_suspicions(self, now_s: float, effects: Effects) -> None:
        for request_id, suspicion in list(self._suspicions.items()):
            if now_s < suspicion.deadline_s:
                continue
            del self._suspicions[request_id]
            entry = suspicion.entry
            if self._entries.get(request_id) is not entry or entry.owner != suspicion.owner:
                continue
            if len(entry.tokens) == suspicion.tokens:
                self._recover(entry, f"{entry.owner_id} is mute since a move failed", effects)
            elif suspicion.spans > 1:
                self._suspect(entry, suspicion.spans - 1, now_s)

    def _owner_lost(self, entry: Entry, now_s: float, effects: Effects) -> None:
        pending = entry.pending
        if pending is None:
            self._recover(entry, f"instance {entry.owner_id} is gone", effects)
            return
        entry.owner_gone = True
        if pending.running:
            self._close_gap(entry, effects)
        else:
            pending.deadline_s = now_s + ADOPTION_GRACE_S

    def tick(self, now_s: float) -> Effects:
        """Act on moves whose time is up; call it every 100 ms or so."""
        effects = Effects()
        if self._suspicions:
            self._check_suspicions(now_s, effects)
        for entry in list(self._pending.values()):
            pending = entry.pending
            if pending is None:
                continue
            if pending.deadline_s is None:
                if pending.running:
                    pending.deadline_s = now_s + GAP_LIMIT_S
            elif now_s >= pending.deadline_s:
                if pending.running:
                    self._close_gap(entry, effects)
                else:
                    self._recover(entry, f"instance {entry.owner_id} is gone", effects)
        return effects

    def revoke(self, request_id: str, reason: str) -> Effects:
        """Take a request away from whoever runs it, to dispatch it again."""
        effects = Effects()
        entry = self._entries.get(request_id)
        if entry is not None and entry.owner:
            self._recover(entry, reason, effects)
        return effects

    def _recover(self, entry: Entry, reason: str, effects: Effects, failed_at: str = "") -> None:
        self._revoke(entry, effects)
        entry.recoveries += 1
        self.counters["recoveries"] += 1
        effects.actions.append(Recover(entry.request_id, reason, failed_at))

    # ---------------------------------------------------------------- owner and pending

    def _issue(self, entry: Entry) -> int:
        entry.issued += 1
        return entry.issued

    def _own(self, entry: Entry, dispatch: int, instance_id: str) -> None:
        entry.owner, entry.owner_id, entry.owner_gone = dispatch, instance_id, False
        entry.fresh_owner = dispatch > 1
        entry.instances.append(instance_id)
        entry.engine_id = engine_id(entry.request_id, dispatch)
        self._owners[entry.engine_id] = entry

    def _disown(self, entry: Entry) -> None:
        self._owners.pop(entry.engine_id, None)
        entry.owner, entry.owner_id, entry.owner_gone, entry.engine_id = 0, "", False, ""

    def _unpend(self, entry: Entry) -> None:
        if entry.pending is not None:
            self._pending.pop(engine_id(entry.request_id, entry.pending.dispatch), None)
            entry.pending = None

    def _revoke(self, entry: Entry, effects: Effects) -> None:
        """Nobody may run it any more."""
        if entry.owner:
            effects.actions.append(AbortAt(entry.owner_id, entry.engine_id))
        if entry.pending is not None:
            pending_id = engine_id(entry.request_id, entry.pending.dispatch)
            effects.actions.append(AbortAt(entry.pending.destination_id, pending_id))
        self._unpend(entry)
        self._disown(entry)
