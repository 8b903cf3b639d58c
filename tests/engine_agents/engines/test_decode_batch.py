"""The closed form does what single steps do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine_agents.engines.decode_batch import DecodeBatch, Sequence, allocated

examples = settings(max_examples=60, derandomize=True, deadline=None)

members = st.lists(
    st.tuples(st.integers(1, 60), st.integers(2, 80), st.integers(0, 15)), min_size=1, max_size=8
)


def batch_of(rows: list[tuple[int, int, int]], block_size: int) -> DecodeBatch:
    """Sequences (prompt, output tokens, steps made before it joins)."""
    batch = DecodeBatch(block_size)
    for number, (prompt, output, before) in enumerate(rows):
        batch.counter += before
        batch.context += before * batch.size
        sequence = Sequence(number, prompt, output, float(number))
        sequence.generated = 1
        batch.join(sequence)
    return batch


def blocks(tokens: int, block_size: int) -> int:
    return -(-tokens // block_size)


def step_by_step(batch: DecodeBatch, block_size: int, steps: int) -> list[int]:
    """Blocks each of the next steps allocates, counted sequence by sequence."""
    lengths = [batch.length(each) for each in batch.members.values()]
    return [
        sum(blocks(n + k, block_size) - blocks(n + k - 1, block_size) for n in lengths) for k in range(steps)
    ]


@examples
@given(members, st.sampled_from([1, 4, 16]), st.integers(1, 70))
def test_buckets_allocate_what_the_sequences_need(rows, block_size, steps) -> None:
    batch = batch_of(rows, block_size)
    expected = step_by_step(batch, block_size, steps)
    assert batch.due_now() == expected[0]
    assert allocated(batch.buckets, batch.counter, steps, batch.size) == sum(expected)


@examples
@given(members, st.sampled_from([1, 4, 16]), st.integers(0, 40), st.integers(1, 70))
def test_safe_steps_never_take_the_last_block_and_stop_no_earlier(rows, block_size, free, limit) -> None:
    batch = batch_of(rows, block_size)
    safe = batch.safe_steps(free, limit)
    costs = step_by_step(batch, block_size, limit)
    assert 0 <= safe <= limit
    assert safe == 0 or free - sum(costs[:safe]) >= 1
    assert safe == limit or free - sum(costs[: safe + 1]) < 1


@examples
@given(members)
def test_finishers_come_out_when_their_last_token_is_made(rows) -> None:
    batch = batch_of(rows, 16)
    left = {each.number: each.output_tokens - (batch.counter - each.base) for each in batch.members.values()}
    while batch.size:
        steps = max(0, batch.steps_to_finish())
        batch.advance(steps)
        left = {number: tokens - steps for number, tokens in left.items()}
        done = batch.pop_finished()
        assert done
        assert {each.number for each in done} == {number for number, tokens in left.items() if tokens <= 0}
        for each in done:
            del left[each.number]
    assert batch.context == 0
    assert not any(batch.buckets)


def test_who_leaves_early_is_not_waited_for() -> None:
    batch = batch_of([(10, 5, 0), (10, 50, 0)], 16)
    first, second = batch.members.values()
    batch.leave(first)
    assert first.generated == 1
    assert batch.steps_to_finish() == 49
    batch.join(first)
    assert batch.steps_to_finish() == 4
    assert batch.held_blocks(second) == 1
