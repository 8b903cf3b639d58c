from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.scheduling.ledger import Ledger
from tests.scheduling.clusters import examples


def test_holds_what_no_report_has_seen() -> None:
    ledger = Ledger()
    ledger.sent("a", 1, 100)
    ledger.sent("a", 2, 50)
    ledger.sent("b", 1, 7)
    assert ledger.in_flight("a") == (150, 2)
    ledger.reconcile("a", 1)
    assert ledger.in_flight("a") == (50, 1)
    ledger.reconcile("a", 0)
    assert ledger.in_flight("a") == (50, 1), "an older report takes nothing back"
    assert ledger.in_flight("b") == (7, 1)
    assert ledger.in_flight("nobody") == (0, 0)
    assert ledger.sent_total("a") == 2
    assert ledger.sent_total("nobody") == 0


def test_a_refused_send_is_withdrawn_once() -> None:
    ledger = Ledger()
    ledger.sent("a", 1, 100)
    ledger.sent("a", 2, 50)
    ledger.withdraw("a", 1)
    ledger.withdraw("a", 1)
    ledger.withdraw("nobody", 1)
    assert ledger.in_flight("a") == (50, 1)
    ledger.reconcile("a", 2)
    ledger.withdraw("a", 2)
    assert ledger.in_flight("a") == (0, 0), "a report has taken it over"


def test_another_incarnation_starts_at_nothing() -> None:
    ledger = Ledger()
    ledger.sent("a", 9, 100)
    ledger.forget("a")
    assert ledger.in_flight("a") == (0, 0)
    ledger.sent("a", 0, 5)
    assert ledger.in_flight("a") == (5, 1)


def test_reports_without_sends_are_nothing() -> None:
    ledger = Ledger()
    ledger.reconcile("a", 5)
    ledger.sent("a", 0, 5)
    ledger.reconcile("a", 0)
    ledger.reconcile("a", 3)
    assert ledger.in_flight("a") == (0, 0)


@pytest.mark.parametrize(("seq", "tokens", "words"), [(1, 5, "rise"), (0, 5, "rise"), (2, -1, "negative")])
def test_refuses_nonsense(seq: int, tokens: int, words: str) -> None:
    ledger = Ledger()
    ledger.sent("a", 1, 100)
    with pytest.raises(ValueError, match=words):
        ledger.sent("a", seq, tokens)
    assert ledger.in_flight("a") == (100, 1)


@examples
@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=30), st.integers(-1, 30))
def test_what_is_left_is_what_was_sent_after_the_stamp(sends: list[tuple[int, bool]], seen: int) -> None:
    ledger, left = Ledger(), []
    for seq, (tokens, refused) in enumerate(sends):
        ledger.sent("a", seq, tokens)
        if refused:
            ledger.withdraw("a", seq)
        elif seq > seen:
            left.append(tokens)
    ledger.reconcile("a", seen)
    assert ledger.in_flight("a") == (sum(left), len(left))
