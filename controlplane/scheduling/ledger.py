"""What was sent to each instance since the stamp of its last report.

A report is always a little old: what was dispatched (or reserved for an incoming
migration) meanwhile is not in it, so that several requests would run to the same
instance before it can say that it is full. The ledger remembers every send under
a sequence number; the engine echoes the highest number its report has seen, and
everything up to there is forgotten here, because the report now holds it.
"""

from __future__ import annotations

from collections import deque

_NOTHING = (0, 0)


class _Account:
    __slots__ = ("entries", "in_flight", "seen", "sent_total")

    def __init__(self) -> None:
        self.entries: deque[tuple[int, int]] = deque()
        self.in_flight = _NOTHING
        self.seen = -1
        self.sent_total = 0


class Ledger:
    """Sends by instance. Sequence numbers of one instance must rise; gaps are fine."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def sent(self, instance_id: str, seq: int, tokens: int) -> None:
        """Note a request (or an incoming migration) of ``tokens`` under ``seq``, before sending it.

        Raises ``ValueError`` when ``seq`` does not rise or ``tokens`` is negative.
        """
        account = self._accounts.get(instance_id)
        if account is None:
            account = self._accounts[instance_id] = _Account()
        if tokens < 0:
            raise ValueError(f"tokens must not be negative, got {tokens}")
        last = account.entries[-1][0] if account.entries else account.seen
        if seq <= last:
            raise ValueError(f"seq must rise: {seq} after {last} for {instance_id}")
        account.entries.append((seq, tokens))
        account.sent_total += 1
        held, count = account.in_flight
        account.in_flight = (held + tokens, count + 1)

    def reconcile(self, instance_id: str, seen_seq: int) -> None:
        """The instance's newest report has seen everything up to ``seen_seq``."""
        account = self._accounts.get(instance_id)
        if account is None or seen_seq <= account.seen:
            return
        account.seen = seen_seq
        entries = account.entries
        if not entries or entries[0][0] > seen_seq:
            return
        held, count = account.in_flight
        while entries and entries[0][0] <= seen_seq:
            held -= entries.popleft()[1]
            count -= 1
        account.in_flight = (held, count)

    def withdraw(self, instance_id: str, seq: int) -> None:
        """The send under ``seq`` is not there (refused, over, elsewhere); unknown numbers are ignored."""
        account = self._accounts.get(instance_id)
        if account is None or seq <= account.seen:
            return
        for entry in account.entries:
            if entry[0] == seq:
                account.entries.remove(entry)
                held, count = account.in_flight
                account.in_flight = (held - entry[1], count - 1)
                return

    def forget(self, instance_id: str) -> None:
        """The instance is gone, or came back as another incarnation."""
        self._accounts.pop(instance_id, None)

    def in_flight(self, instance_id: str) -> tuple[int, int]:
        """``(tokens, requests)`` sent and not yet in a report."""
        account = self._accounts.get(instance_id)
        return account.in_flight if account is not None else _NOTHING

    def sent_total(self, instance_id: str) -> int:
        """How many sends this instance ever got (what round robin balances)."""
        account = self._accounts.get(instance_id)
        return account.sent_total if account is not None else 0


NO_LEDGER = Ledger()
"""For who knows of nothing in flight; never written to."""
