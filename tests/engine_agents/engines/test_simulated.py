from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest

from engine_agents.engines.decode_batch import Sequence
from engine_agents.engines.simulated import MODES, SimulatedEngine


@dataclass(frozen=True)
class Model:
    """Round numbers: a prompt token costs 1 ms, a decode step 10 ms."""

    prefill_a: float = 0.0
    prefill_b: float = 0.001
    prefill_c: float = 0.0
    decode_a: float = 0.010
    decode_b: float = 0.0
    decode_c: float = 0.0
    capacity_blocks: int = 20
    block_size_tokens: int = 16
    max_batch_tokens: int = 1000
    max_batch_requests: int = 8
    chunk_budget_tokens: int = 64

    def mixed_s(self, prefill_tokens: int, prefill_context: int, batch: int, context: int) -> float:
        return self.prefill_b * prefill_tokens + (self.decode_a if batch else 0.0)


class Seen:
    """Where an engine writes its report."""


def engine(mode: str = "vllm_2023", **changes) -> SimulatedEngine:
    options = {key: changes.pop(key) for key in ("relative_speed", "jump", "class_use") if key in changes}
    made = SimulatedEngine(0, Model(**changes), mode=mode, watermark_share=0.0, **options)
    made.finished = []
    made.on_finished = lambda sequence, now: made.finished.append((sequence.number, round(now, 6)))
    return made


def sequence(number: int, prompt: int, output: int, at_s: float = 0.0, rank: int = 1) -> Sequence:
    return Sequence(number, prompt, output, at_s, rank=rank)


def run(made: SimulatedEngine, until_s: float = inf) -> None:
    while made.wake_s <= until_s and made.wake_s < inf:
        made.on_time(made.wake_s)


def test_prefill_then_decode() -> None:
    made = engine()
    one = sequence(1, 100, 11)
    assert made.add(one, 0.0)
    run(made)
    assert one.first_token_s == pytest.approx(0.1)
    assert made.finished == [(1, 0.2)]
    assert made.steps_total == 11
    assert made.free == made.capacity
    assert made.empty


def test_a_faster_engine_takes_proportionally_less_time() -> None:
    made = engine(relative_speed=2.0)
    made.add(sequence(1, 100, 11), 0.0)
    run(made)
    assert made.finished == [(1, 0.1)]


@pytest.mark.parametrize("mode", MODES)
def test_one_token_is_over_with_its_prefill(mode: str) -> None:
    made = engine(mode)
    made.add(sequence(1, 50, 1), 0.0)
    run(made)
    assert made.finished == [(1, 0.05)]
    assert made.free == made.capacity


def test_an_arrival_waits_for_the_step_in_progress_and_then_stops_the_decodes() -> None:
    made = engine()
    one, two = sequence(1, 100, 21), sequence(2, 50, 2, 0.125)
    made.add(one, 0.0)
    run(made, 0.12)
    made.add(two, 0.125)
    run(made)
    assert two.first_token_s == pytest.approx(0.13 + 0.05)
    assert one.finished_s == pytest.approx(0.1 + 20 * 0.01 + 0.05)


def test_the_queue_is_strict_and_lower_rank_is_served_first() -> None:
    made = engine()
    for each in (sequence(1, 200, 50), sequence(2, 200, 2), sequence(3, 16, 2), sequence(4, 16, 2, rank=0)):
        made.add(each, 0.0)
    run(made)
    order = [number for number, _ in made.finished]
    assert order.index(4) < order.index(2)
    assert order.index(2) <= order.index(3), "a small one does not pass a blocked head"


def test_the_latest_arrival_of_the_lowest_priority_is_preempted_and_recomputed() -> None:
    made = engine(capacity_blocks=6)
    first, second = sequence(1, 30, 40, 0.0), sequence(2, 30, 40, 0.001)
    made.add(first, 0.0)
    made.add(second, 0.001)
    run(made)
    assert first.preemptions == 0 < second.preemptions
    assert second.preemption_loss_s > 0
    assert first.finished_s < second.finished_s
    assert made.preemptions_total == second.preemptions
    assert made.free == made.capacity


def test_handed_back_requests_leave_with_their_tokens() -> None:
    made = engine(capacity_blocks=6)
    made.hand_back = True
    lost = []
    made.on_preempted = lambda each, now: lost.append(each)
    first, second = sequence(1, 30, 40, 0.0), sequence(2, 30, 40, 0.001)
    made.add(first, 0.0)
    made.add(second, 0.001)
    run(made)
    assert lost == [second]
    assert second.engine is None
    assert second.generated > 1
    assert made.empty
    made.add(second, 10.0)
    run(made)
    assert second.finished_s > 10.0
    assert second.visited == [0, 0]


def test_refuses_what_does_not_fit_when_told_to() -> None:
    made = engine()
    made.only_if_fits = True
    assert made.add(sequence(1, 300, 5), 0.0)
    assert not made.add(sequence(2, 100, 5), 0.0)
    assert made.waiting == 0


def test_a_waiting_request_can_be_taken_back() -> None:
    made = engine()
    made.add(sequence(1, 300, 5), 0.0)
    waiting = sequence(2, 100, 5)
    made.add(waiting, 0.0)
    assert made.abort(waiting, 0.01)
    assert not made.abort(waiting, 0.01)
    run(made)
    assert [number for number, _ in made.finished] == [1]


def test_chunked_prefill_keeps_decodes_going() -> None:
    made = engine("vllm_v1")
    one, two = sequence(1, 32, 30, 0.0), sequence(2, 160, 2, 0.05)
    made.add(one, 0.0)
    run(made, 0.05)
    before = made.tokens_of(one, 0.05)
    made.add(two, 0.05)
    run(made, 0.28)
    assert two.first_token_s > 0
    assert made.tokens_of(one, 0.28) > before + 2, "decodes went on while the prompt was taken in pieces"
    run(made)
    assert made.free == made.capacity


def test_chunked_prefill_survives_too_little_memory() -> None:
    made = engine("vllm_v1", capacity_blocks=6)
    for number in range(4):
        made.add(sequence(number, 40, 45, number * 0.001), number * 0.001)
    run(made)
    assert len(made.finished) == 4
    assert made.preemptions_total > 0
    assert made.free == made.capacity


# ---------------------------------------------------------------------------------- migration


def test_a_request_moves_with_its_tokens() -> None:
    source, destination = engine(), engine()
    destination.index = 1
    moved = sequence(1, 100, 31)
    source.add(moved, 0.0)
    run(source, 0.15)
    assert source.movable() == [moved]
    assert source.tokens_of(moved, 0.155) == 106
    frozen = []
    source.on_frozen = lambda each, now: frozen.append((each, now))
    assert destination.reserve(7, 0.15)
    assert source.freeze(moved, 0.153)
    run(source, 0.2)
    ((each, at_s),) = frozen
    assert each is moved
    assert at_s == pytest.approx(0.16)
    assert moved.generated == 7
    assert source.free == source.capacity - 7
    source.release(moved, 0.17)
    assert source.empty and source.free == source.capacity
    destination.adopt(moved, 7, 0.17)
    run(destination)
    assert moved.finished_s == pytest.approx(0.17 + 24 * 0.01)
    assert destination.free == destination.capacity and not destination.reserved
    assert moved.visited == [0, 1]


def test_a_frozen_request_can_go_on_where_it_was() -> None:
    source = engine()
    moved = sequence(1, 100, 31)
    source.add(moved, 0.0)
    run(source, 0.15)
    source.on_frozen = lambda each, now: source.thaw(each, now)
    source.freeze(moved, 0.15)
    run(source)
    assert moved.finished_s == pytest.approx(0.1 + 30 * 0.01)
    assert source.free == source.capacity


def test_only_decoding_requests_freeze() -> None:
    source = engine()
    moved = sequence(1, 100, 31)
    source.add(moved, 0.0)
    assert not source.freeze(moved, 0.05)


def test_no_reservation_without_room_or_while_others_wait() -> None:
    made = engine()
    assert not made.reserve(21, 0.0)
    assert made.reserve(15, 0.0)
    assert not made.extend(6, 0.0)
    assert made.extend(5, 0.0)
    made.add(sequence(1, 100, 2), 0.0)
    assert not made.reserve(1, 0.0), "somebody waits"
    assert made.blocked_head_blocks(0.0) == 7
    made.drop(20, 0.5)
    run(made)
    assert made.finished == [(1, 0.61)]


# ---------------------------------------------------------------------------------- reports


def test_a_report_says_what_the_last_finished_step_began_with() -> None:
    made, seen = engine(), Seen()
    made.add(sequence(1, 100, 31), 0.0)
    made.seen_seq = 7
    made.reports.write(seen, 0.05)
    assert seen.used_tokens == 0 and seen.running == 0, "the prefill has not ended yet"
    run(made, 0.1)
    made.reports.write(seen, 0.1)
    assert seen.used_tokens == 112 and seen.running == 1 and seen.unprefilled_tokens == 100
    assert made.reports.write(seen, 0.135) == 7
    assert seen.unprefilled_tokens == 0
    assert seen.used_tokens == 112, "102 tokens"
    made.reports.write(seen, 0.1 + 0.01 * 14)
    assert seen.used_tokens == 128, "113 tokens before the last finished step"
    run(made)
    made.reports.write(seen, 10.0)
    assert seen.used_tokens == seen.running == 0


def test_a_report_shows_classes_and_the_queue() -> None:
    made, seen = engine(class_use=lambda name, running, waiting: (name, running, waiting)), Seen()
    made.add(sequence(1, 300, 5), 0.0)
    made.add(sequence(2, 100, 5), 0.01)
    run(made, 0.3)
    run(made, 0.31)
    made.reports.write(seen, 0.31)
    assert seen.classes == (("standard", 1, 1),)
    assert (seen.waiting, seen.head_of_line_tokens, seen.queued_tokens) == (1, 112, 112)


@pytest.mark.parametrize(
    ("options", "words"), [({"mode": "v9"}, "vllm_2023"), ({"relative_speed": 0.0}, "positive")]
)
def test_bad_options_are_refused(options, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SimulatedEngine(0, Model(), **options)
