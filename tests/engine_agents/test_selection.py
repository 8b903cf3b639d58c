from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_agents.selection import ORDERS, Candidate, choose, movable


def running(name: str, tokens: int = 100, rank: int = 1, arrived_at_s: float = 0.0, **changes) -> Candidate:
    fields = {"state": "running", "generated_tokens": 5, "leaving": False, **changes}
    return Candidate(f"{name}#1", name, fields["state"], rank, tokens, fields["generated_tokens"],
                     arrived_at_s, fields["leaving"])  # fmt: skip


def names(candidates, **options) -> list[str]:
    options.setdefault("budget_tokens", 10_000)
    options.setdefault("max_requests", 10)
    return [each.request_id for each in choose(candidates, **options)]


MIXED = [
    running("urgent", 10, rank=0, arrived_at_s=9.0),
    running("short", 50, arrived_at_s=1.0),
    running("long", 500, arrived_at_s=2.0),
    running("batch", 300, rank=2, arrived_at_s=0.0),
]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("shortest", ["batch", "short", "long", "urgent"]),
        ("latest", ["batch", "long", "short", "urgent"]),
        ("longest", ["batch", "long", "short", "urgent"]),
    ],
)
def test_lower_priority_first_then_the_order(order: str, expected: list[str]) -> None:
    assert names(MIXED, order=order) == expected
    assert names(list(reversed(MIXED)), order=order) == expected


def test_cover_takes_the_smallest_that_covers_else_the_largest() -> None:
    same = [running(str(n), n) for n in (100, 300, 500)]
    assert names(same, order="cover", need_tokens=250, max_requests=1) == ["300"]
    assert names(same, order="cover", need_tokens=900, max_requests=1) == ["500"]


@pytest.mark.parametrize(
    "candidate",
    [
        running("a", state="arriving"),
        running("a", state="frozen"),
        running("a", state="waiting"),
        running("a", state="preempted"),
        running("a", leaving=True),
        running("a", generated_tokens=0),
    ],
)
def test_only_decoding_requests_that_are_not_leaving_move(candidate: Candidate) -> None:
    assert movable(candidate)
    assert names([candidate]) == []


@pytest.mark.parametrize(
    "candidate",
    [running("a", state="waiting"), running("a", state="preempted"), running("a", generated_tokens=0)],
)
def test_where_all_must_leave_or_one_is_named_its_stage_does_not_matter(candidate: Candidate) -> None:
    assert names([candidate], any_stage=True) == ["a"]
    assert names([candidate], request_id="a") == ["a"]


@pytest.mark.parametrize(
    "candidate",
    [running("a", state="arriving"), running("a", state="frozen"), running("a", leaving=True)],
)
def test_one_on_its_way_never_leaves(candidate: Candidate) -> None:
    assert names([candidate], any_stage=True) == []
    assert names([candidate], request_id="a") == []


def test_an_operator_s_move_takes_that_request_and_no_other() -> None:
    (choice,) = choose(MIXED, budget_tokens=0, request_id="urgent")
    assert choice.engine_id == "urgent#1"
    assert "operator" in choice.why
    assert names(MIXED, request_id="nobody") == []


def test_what_exceeds_the_budget_is_passed_over() -> None:
    assert names(MIXED, order="longest", budget_tokens=360) == ["batch", "short", "urgent"]
    assert names(MIXED, order="longest", budget_tokens=5) == []


def test_ranks_with_headroom_stay() -> None:
    assert "urgent" not in names(MIXED, spare_rank_below=1)


def test_says_why() -> None:
    first, second = choose(MIXED, budget_tokens=10_000, max_requests=2, order="shortest")
    assert first.why == "shortest of rank 2 (300 tokens)"
    assert "1 passed over or moved before it" in second.why


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="shortest"):
        choose(MIXED, budget_tokens=1, order="random")


@given(
    st.lists(
        st.builds(
            Candidate,
            engine_id=st.uuids().map(str),
            request_id=st.just("x"),
            state=st.sampled_from(["running", "waiting", "frozen"]),
            rank=st.integers(0, 2),
            tokens=st.integers(1, 4000),
            generated_tokens=st.integers(0, 3),
            arrived_at_s=st.floats(0, 10),
        ),
        max_size=20,
    ),
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.sampled_from(ORDERS),
)
def test_budget_count_and_state_are_kept(candidates, budget, most, order) -> None:
    chosen = choose(candidates, budget_tokens=budget, max_requests=most, order=order, need_tokens=500)
    assert sum(each.tokens for each in chosen) <= budget
    assert len(chosen) <= most
    able = {each.engine_id for each in candidates if not movable(each)}
    assert {each.engine_id for each in chosen} <= able
