"""The paced engine's own promises: blocks are conserved, tokens depend on KV and on the sampler's state."""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from engine_agents.engines.paced_batch import PacedBatch
from engine_agents.engines.paced_requests import PacedLive, PacedOptions, live_request
from engine_agents.engines.paced_wire import PacedImage, PacedState, encode_request
from engine_agents.engines.port import Frozen, MoveImpossible
from tests.engine_agents.harness import undisturbed

OPTIONS = PacedOptions(block_size_tokens=4, kv_bytes_per_token=16, max_num_seqs=4, max_num_batched_tokens=16)
PROMPT = list(range(30))


def batch(blocks: int = 100) -> PacedBatch:
    return PacedBatch(OPTIONS, blocks)


def add(
    to: PacedBatch, name: str, prompt: list[int], arrived_at_s: float = 0.0, **sampling: float
) -> PacedLive:
    request = encode_request(name, prompt, **sampling)  # type: ignore[arg-type]
    image = PacedImage(request, slo_class="standard", tenant="", rank=1, arrived_at_s=arrived_at_s)
    live = live_request(f"{name}#1", "gateway", image, [])
    to.add(live)
    return live


def step(one: PacedBatch) -> list[int]:
    return [made.token_id for made in one.compute(one.schedule()[0])]


def hand_over(source: PacedBatch, destination: PacedBatch, name: str) -> Frozen:
    """Everything in one tail, as for a short request."""
    image = msgspec.msgpack.encode(source.get(name).image)
    frozen = source.freeze(name, 0)
    reservation = destination.hold("gateway", f"{name}0", image, frozen.computed_tokens + 1)
    destination.adopt(reservation, frozen)
    source.release(name)
    return frozen


def conserved(one: PacedBatch) -> bool:
    held = sum(len(live.blocks) for live in one.live.values())
    reserved = sum(reservation.blocks for reservation in one.reservations)
    return held + reserved + one.memory.free_blocks == one.memory.geometry.blocks


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_blocks_are_conserved_whatever_is_asked(data):
    one, number = batch(blocks=24), 0
    for _ in range(data.draw(st.integers(5, 40))):
        names = list(one.live)
        action = data.draw(
            st.sampled_from(["add", "step", "abort", "freeze", "thaw", "release", "hold", "drop"])
        )
        if action == "add":
            number += 1
            length = data.draw(st.integers(1, 40))
            add(one, f"r{number}", list(range(length)), float(number), max_tokens=30)
        elif action == "hold":
            number += 1
            image = msgspec.msgpack.encode(add(batch(), "x", PROMPT).image)
            tokens = data.draw(st.integers(1, 60))
            with contextlib.suppress(MoveImpossible):
                one.hold("gateway", f"h{number}#2", image, tokens)
        elif action == "drop" and one.reservations:
            one.drop(one.reservations[0])
        elif action == "step":
            step(one)
        elif action in ("abort", "thaw", "release", "freeze") and names:
            try:
                name = data.draw(st.sampled_from(names))
                one.freeze(name, 0) if action == "freeze" else getattr(one, action)(name)
            except MoveImpossible:
                pass
        assert conserved(one)
        assert all(count >= 0 for count in one.memory._references)
    for name in list(one.live):
        one.abort(name)
    for reservation in list(one.reservations):
        one.drop(reservation)
    assert one.memory.free_blocks == 24


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}])
def test_tokens_survive_a_hand_over(sampling):
    expected = undisturbed("r", 20, PROMPT, **sampling)
    source, destination = batch(), batch()
    add(source, "r", PROMPT, max_tokens=20, **sampling)
    tokens = [token for _ in range(8) for token in step(source)]
    hand_over(source, destination, "r#1")
    while destination.live:
        tokens += step(destination)
    assert tokens == expected
    assert conserved(source)
    assert source.memory.free_blocks == 100


def test_a_lost_sampler_state_shows():
    """The negative control of every identity test with this engine."""
    source, destination = batch(), batch()
    add(source, "r", PROMPT, max_tokens=30, temperature=1.0, seed=5)
    tokens = [token for _ in range(8) for token in step(source)]
    image = msgspec.msgpack.encode(source.get("r#1").image)
    frozen = source.freeze("r#1", 0)
    forgetful = msgspec.msgpack.encode(PacedState(sampler=5))
    reservation = destination.hold("gateway", "r#2", image, 60)
    destination.adopt(
        reservation,
        Frozen(
            "r#2", 0, frozen.blocks, frozen.tail, forgetful, frozen.output_token_ids, frozen.computed_tokens
        ),
    )
    while destination.live:
        tokens += step(destination)
    assert tokens != undisturbed("r", 30, PROMPT, temperature=1.0, seed=5)


def test_a_wrong_byte_in_the_last_record_shows():
    source, destination = batch(), batch()
    add(source, "r", PROMPT, max_tokens=30)
    tokens = [token for _ in range(8) for token in step(source)]
    image = msgspec.msgpack.encode(source.get("r#1").image)
    frozen = source.freeze("r#1", 0)
    last = (frozen.computed_tokens - 1) * OPTIONS.kv_bytes_per_token
    tail = bytearray(frozen.tail)
    tail[last] ^= 1
    reservation = destination.hold("gateway", "r#2", image, 60)
    damaged = Frozen(
        "r#2", 0, frozen.blocks, bytes(tail), frozen.state, frozen.output_token_ids, frozen.computed_tokens
    )
    destination.adopt(reservation, damaged)
    while destination.live:
        tokens += step(destination)
    assert tokens != undisturbed("r", 30, PROMPT)


def test_adoption_without_all_blocks_is_refused():
    source, destination = batch(), batch()
    add(source, "r", PROMPT, max_tokens=30)
    for _ in range(5):
        step(source)
    image = msgspec.msgpack.encode(source.get("r#1").image)
    frozen = source.freeze("r#1", 3)
    reservation = destination.hold("gateway", "r#2", image, 60)
    with pytest.raises(MoveImpossible, match="KV of block 0 is missing"):
        destination.adopt(reservation, frozen)
    destination.drop(reservation)
    assert destination.memory.free_blocks == 100


def test_nothing_is_written_into_a_dropped_reservation():
    destination = batch()
    image = msgspec.msgpack.encode(add(batch(), "x", PROMPT).image)
    reservation = destination.hold("gateway", "r#2", image, 8)
    with pytest.raises(MoveImpossible, match="do not fit"):
        destination.write(reservation, 2, bytes(64))
    destination.drop(reservation)
    with pytest.raises(MoveImpossible, match="gone"):
        destination.write(reservation, 0, bytes(64))


def test_lower_ranks_are_served_first_and_preempted_last():
    one = batch(blocks=16)
    first = add(one, "batch", PROMPT, 0.0, max_tokens=30)
    first.rank = 2
    second = add(one, "interactive", PROMPT[:10], 1.0, max_tokens=30)
    second.rank = 0
    preempted: list[str] = []
    while one.live:
        planned, victims = one.schedule()
        preempted += [victim.engine_id for victim in victims]
        one.compute(planned)
    assert set(preempted) == {"batch#1"}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"vocab": 3}, "engine_args.vocab: unknown"),
        ({"base_step_ms": -1.0}, "engine_args.base_step_ms: must be positive"),
        ({"kv_bytes_per_token": 12}, "engine_args.kv_bytes_per_token: must be a multiple of 8"),
    ],
)
def test_bad_arguments_are_named(args, sentence):
    with pytest.raises(ValueError, match=sentence):
        PacedOptions.from_args(args)
