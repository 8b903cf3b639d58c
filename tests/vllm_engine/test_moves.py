"""Every operation of a move by itself, on real engines: what it takes, what it gives back."""

from __future__ import annotations

import dataclasses
import time

import pytest

from engine_agents.engines.port import MoveImpossible, RequestState
from tests.vllm_engine.harness import BLOCK_TOKENS, PATIENCE_S, copy_stage, move, prompt_of, reserve

pytestmark = pytest.mark.engine

OPTIONS = {"max_tokens": 200, "ignore_eos": True, "temperature": 1.0, "seed": 1}
PROMPT = prompt_of(100, salt=9)


def running(site, name="r", **changes):
    """A request in the middle of its decoding; returns its engine id."""
    engine_id = site.add(name, PROMPT, **{**OPTIONS, **changes})
    site.at_least(engine_id, 5)
    return engine_id


def failure(future):
    with pytest.raises(MoveImpossible) as caught:
        future.result(PATIENCE_S)
    return str(caught.value)


def test_frozen_and_thawed_goes_on_as_if_nothing_had_been(site):
    whole = site.run("whole", PROMPT, **OPTIONS)
    engine_id = running(site)
    beside = site.add("beside", PROMPT, **{**OPTIONS, "seed": 2})

    frozen = site.engine.freeze(engine_id, 0).result(PATIENCE_S)
    made = len(site.outputs.of(engine_id).tokens)
    site.finished(beside)
    during = site.engine.requests().result(PATIENCE_S)
    site.engine.thaw(engine_id).result(PATIENCE_S)

    assert made == len(frozen.output_token_ids)
    assert frozen.computed_tokens == len(PROMPT) + made - 1
    assert [(info.engine_id, info.state) for info in during] == [(engine_id, "frozen")]
    assert site.finished(engine_id).tokens == whole.tokens


def test_a_frozen_request_can_be_aborted_and_then_only_released(site):
    engine_id = running(site)
    site.engine.freeze(engine_id, 0).result(PATIENCE_S)
    site.engine.abort([engine_id]).result(PATIENCE_S)

    assert "not frozen" in failure(site.engine.thaw(engine_id))
    site.engine.release(engine_id).result(PATIENCE_S)


def test_only_what_runs_can_be_frozen(site):
    engine_id = running(site)
    site.engine.freeze(engine_id, 0).result(PATIENCE_S)

    assert failure(site.engine.freeze(engine_id, 0)) == "it is frozen, not running"
    assert failure(site.engine.freeze("gone#1", 0)) == "it is not here (any more)"
    assert failure(site.engine.release(running(site, "s"))) == "it is not frozen here"
    site.engine.abort([engine_id, "s#1"]).result(PATIENCE_S)


def test_a_reservation_is_counted_apart_and_given_back(sites):
    source, destination = sites
    engine_id = running(source)
    reservation = reserve(source, destination, engine_id, "r#2", 10 * BLOCK_TOKENS)
    held = destination.engine.load()
    destination.engine.extend(reservation, 12 * BLOCK_TOKENS).result(PATIENCE_S)
    extended = destination.engine.load()
    destination.engine.drop(reservation).result(PATIENCE_S)
    destination.engine.drop(reservation).result(PATIENCE_S)

    assert (held.used_blocks, held.reserved_blocks) == (0, 10)
    assert (extended.used_blocks, extended.reserved_blocks, reservation.blocks) == (0, 12, 12)
    assert destination.engine.load().reserved_blocks == 0
    with pytest.raises(MoveImpossible, match="over"):
        destination.engine.write(reservation, 0, 1, b"\0" * BLOCK_TOKENS * source.info.kv_bytes_per_token)
    assert "over" in failure(destination.engine.extend(reservation, 20 * BLOCK_TOKENS))
    source.engine.abort([engine_id]).result(PATIENCE_S)


def test_without_room_nothing_is_reserved(sites):
    source, destination = sites
    engine_id = running(source)
    image = source.engine.image(engine_id).result(PATIENCE_S)
    holds = [
        destination.engine.hold("g", f"r#{n}", image, 4000).result(PATIENCE_S)
        for n in range(2, 2 + destination.info.total_blocks * BLOCK_TOKENS // 4000)
    ]

    assert "no room: 125 blocks are needed" in failure(destination.engine.hold("g", "r#9", image, 4000))
    assert "r#2 is here already" in failure(destination.engine.hold("g", "r#2", image, 32))
    assert "more than the model takes" in failure(destination.engine.hold("g", "r#9", image, 5000))
    assert destination.engine.load().reserved_blocks == 125 * len(holds)
    for hold in holds:
        destination.engine.drop(hold).result(PATIENCE_S)
    source.engine.abort([engine_id]).result(PATIENCE_S)


def test_without_a_slot_nothing_is_reserved(sites):
    source, destination = sites
    engine_id = running(source)
    image = source.engine.image(engine_id).result(PATIENCE_S)
    slots = destination.engine.serving.scheduler.max_num_running_reqs
    holds = [
        destination.engine.hold("g", f"r#{n}", image, 32).result(PATIENCE_S) for n in range(2, 2 + slots)
    ]

    assert failure(destination.engine.hold("g", "r#99", image, 32)) == f"all {slots} slots are taken"
    waiting = destination.add("w", PROMPT, max_tokens=3, ignore_eos=True)
    assert destination.engine.load().waiting == 1
    for hold in holds:
        destination.engine.drop(hold).result(PATIENCE_S)
    assert len(destination.finished(waiting).tokens) == 3
    source.engine.abort([engine_id]).result(PATIENCE_S)


def test_an_adoption_that_lacks_something_is_refused_and_can_be_made_good(sites):
    source, destination = sites
    whole = destination.run("whole", PROMPT, **OPTIONS)
    engine_id = running(source)
    reservation = reserve(source, destination, engine_id, "r#2", 10 * BLOCK_TOKENS)
    copied = copy_stage(source, destination, engine_id, reservation, 0)
    frozen = source.engine.freeze(engine_id, copied).result(PATIENCE_S)
    reservation.written.discard(1)

    def refusal(**changes):
        return failure(destination.engine.adopt(reservation, dataclasses.replace(frozen, **changes)))

    assert "1 blocks were never written, the first is 1" in refusal()
    assert "bytes" in refusal(tail=frozen.tail[:-4])
    assert "make no sense" in refusal(computed_tokens=0)
    assert "make no sense" in refusal(computed_tokens=5000)
    assert "not at" in refusal(first_block=frozen.first_block + 1)
    reservation.written.add(1)
    assert "not a sampler state" in refusal(state=b"nonsense")
    destination.engine.adopt(reservation, frozen).result(PATIENCE_S)
    source.engine.release(engine_id).result(PATIENCE_S)

    assert source.outputs.of(engine_id).tokens + destination.finished("r#2").tokens == whole.tokens


def test_wrong_blocks_and_wrong_lengths_are_refused(sites):
    source, destination = sites
    engine_id = running(source)
    reservation = reserve(source, destination, engine_id, "r#2", 2 * BLOCK_TOKENS)
    block = b"\0" * BLOCK_TOKENS * source.info.kv_bytes_per_token

    with pytest.raises(ValueError, match="are not reserved"):
        destination.engine.write(reservation, 1, 2, block + block)
    with pytest.raises(ValueError, match="bytes"):
        destination.engine.write(reservation, 0, 1, block[:-1])
    pinned = source.engine.pin(engine_id, 1).result(PATIENCE_S)
    with pytest.raises(ValueError, match="not among those pinned"):
        source.read(pinned, 0, 1)
    source.engine.unpin(pinned).result(PATIENCE_S)
    with pytest.raises(MoveImpossible, match="not pinned any more"):
        source.read(pinned, 1, 1)
    destination.engine.drop(reservation).result(PATIENCE_S)
    source.engine.abort([engine_id]).result(PATIENCE_S)


def test_pinned_blocks_outlive_their_request(site):
    engine_id = running(site)
    pinned = site.engine.pin(engine_id, 0).result(PATIENCE_S)
    data = site.read(pinned, 0, pinned.blocks)
    site.engine.abort([engine_id]).result(PATIENCE_S)
    kept = site.engine.load().used_blocks
    site.run("other", prompt_of(4000, salt=11), max_tokens=2)
    site.run("another", prompt_of(4000, salt=12), max_tokens=2)

    assert kept == pinned.blocks == 3
    assert site.read(pinned, 0, pinned.blocks) == data
    site.engine.unpin(pinned).result(PATIENCE_S)
    site.engine.unpin(pinned).result(PATIENCE_S)
    assert site.engine.pin(engine_id, 0).result(PATIENCE_S).state is RequestState.GONE


def test_a_request_that_waits_or_was_preempted_is_not_frozen(site):
    for number in range(2):
        site.add(f"long{number}", prompt_of(3900, salt=number), max_tokens=150, ignore_eos=True)
    site.add("w", prompt_of(3000, salt=20), max_tokens=100)
    pinned = site.engine.pin("w#1", 0).result(PATIENCE_S)

    assert (pinned.state, pinned.blocks) == (RequestState.WAITING, 0)
    assert failure(site.engine.freeze("w#1", 0)) == "it is waiting, not running"
    site.engine.abort(["long0#1", "long1#1", "w#1"]).result(PATIENCE_S)


def test_images_of_another_version_or_kind_are_refused(sites, monkeypatch):
    source, destination = sites
    engine_id = running(source)
    image = source.engine.image(engine_id).result(PATIENCE_S)
    monkeypatch.setattr(source.engine.serving.departures, "_version", "0.31.0")
    older = source.engine.image(engine_id).result(PATIENCE_S)

    assert "vLLM 0.31.0, but this is vLLM 0.32.0" in failure(destination.engine.hold("g", "r#2", older, 32))
    assert "not a request image" in failure(destination.engine.hold("g", "r#2", image[:-3], 32))
    source.engine.abort([engine_id]).result(PATIENCE_S)


def test_prompt_logprobs_do_not_move_and_say_so(site):
    engine_id = running(site, prompt_logprobs=1)

    assert "prompt_logprobs" in failure(site.engine.image(engine_id))
    assert "prompt_logprobs" in failure(site.engine.freeze(engine_id, 0))
    assert len(site.finished(engine_id).tokens) == OPTIONS["max_tokens"]


def test_pooling_requests_do_not_move():
    from engine_agents.vllm_engine.departures import check_movable

    with pytest.raises(MoveImpossible, match="pooling requests cannot move"):
        check_movable(None)


def test_a_request_for_a_lora_does_not_go_where_there_is_none(sites):
    from vllm.lora.request import LoRARequest

    from engine_agents.vllm_engine import codec, images

    source, destination = sites
    engine_id = running(source)
    data = source.engine.image(engine_id).result(PATIENCE_S)
    image = images.decode_image(data, source.info.engine_version)
    request = codec.decode_request(image.engine_request)
    request.lora_request = LoRARequest("style", 3, "/models/style")
    image.engine_request = codec.encode_request(request)

    refusal = failure(destination.engine.hold("g", "r#2", images.encode(image), 32))

    assert "started without LoRA support" in refusal
    source.engine.abort([engine_id]).result(PATIENCE_S)


@pytest.mark.parametrize(
    ("options", "change", "reason"),
    [
        ({}, "another device", "its generator lives on cuda, ours would on cpu"),
        ({}, "a broken generator", "its generator state is invalid"),
        ({"regex": r"[0-9]{300}"}, "other tokens", "its grammar rejects the tokens made so far"),
    ],
)
def test_a_state_that_cannot_be_gone_on_with_is_refused_and_the_source_goes_on(
    sites, options, change, reason
):
    from vllm.sampling_params import StructuredOutputsParams

    source, destination = sites
    sampling = {**OPTIONS, "max_tokens": 100}
    if options:
        structured = StructuredOutputsParams(**options)
        structured._backend = "xgrammar"
        sampling["structured_outputs"] = structured
    whole = destination.run("whole", PROMPT, **sampling)
    engine_id = source.add("r", PROMPT, **sampling)
    source.at_least(engine_id, 5)
    reservation = reserve(source, destination, engine_id, "r#2", 10 * BLOCK_TOKENS)
    frozen = source.engine.freeze(engine_id, 0).result(PATIENCE_S)

    refusal = failure(destination.engine.adopt(reservation, with_other_state(frozen, change)))
    destination.engine.drop(reservation).result(PATIENCE_S)
    source.engine.thaw(engine_id).result(PATIENCE_S)

    assert reason in refusal
    assert source.finished(engine_id).tokens == whole.tokens


def with_other_state(frozen, change):
    from engine_agents.vllm_engine import images

    state = images.decode_sampler_state(frozen.state)
    if change == "another device":
        state.device = "cuda"
    elif change == "a broken generator":
        state.generator = b"short"
    else:
        return dataclasses.replace(frozen, output_token_ids=(5,) * len(frozen.output_token_ids))
    return dataclasses.replace(frozen, state=images.encode(state))


def test_grammar_and_rank_travel(sites):
    from vllm.sampling_params import StructuredOutputsParams

    source, destination = sites
    structured = StructuredOutputsParams(regex=r"[0-9]{300}")
    structured._backend = "xgrammar"
    options = {
        **OPTIONS,
        "max_tokens": 100,
        "structured_outputs": structured,
        "rank": 2,
        "slo_class": "batch",
    }
    whole = destination.run("whole", PROMPT, **options)
    source.at_least(source.add("r", PROMPT, **options), 5)
    move(source, destination, "r#1", "r#2")
    infos = destination.engine.requests().result(PATIENCE_S)
    end = destination.finished("r#2")

    assert [(info.slo_class, info.prompt_tokens) for info in infos] == [("batch", len(PROMPT))]
    assert source.outputs.of("r#1").tokens + end.tokens == whole.tokens


def test_moves_end_when_the_destination_stops_the_request(sites):
    """Aborting the moved request at its new home frees it there; the source knows nothing of it."""
    source, destination = sites
    engine_id = running(source, max_tokens=2000)
    move(source, destination, engine_id, "r#2")
    destination.at_least("r#2", 3)
    destination.engine.abort(["r#2"]).result(PATIENCE_S)

    assert source.engine.load().used_blocks == destination.engine.load().used_blocks == 0


@pytest.mark.parametrize("prior", [0, 20])
def test_a_waiting_request_moves_by_its_tokens(sites, prior):
    """Fresh, or with tokens made before (as after a pre-emption): it starts where there is room."""
    source, destination = sites
    prompt = prompt_of(3000, salt=30)
    options = {"max_tokens": 40, "ignore_eos": True, "temperature": 1.0, "seed": 6}
    whole = destination.run("whole", prompt, **options)
    for number in range(2):
        source.add(f"long{number}", prompt_of(3900, salt=number), max_tokens=150, ignore_eos=True)
    source.add("w", prompt, prior_token_ids=whole.tokens[:prior], **options)

    reservation = reserve(source, destination, "w#1", "w#2", 1)
    frozen = source.engine.withdraw("w#1", 0).result(PATIENCE_S)
    destination.engine.adopt(reservation, frozen).result(PATIENCE_S)
    source.engine.release("w#1").result(PATIENCE_S)
    end = destination.finished("w#2")

    assert (frozen.blocks, frozen.computed_tokens, len(frozen.output_token_ids)) == (0, 0, prior)
    assert (end.first_start, end.tokens) == (prior, whole.tokens[prior:])
    source.engine.abort(["long0#1", "long1#1"]).result(PATIENCE_S)


@pytest.mark.parametrize("again", [False, True], ids=["waits", "runs again"])
def test_one_that_is_preempted_after_a_stage_goes_on_with_the_blocks_that_were_copied(sites, again):
    source, destination = sites
    options = {**OPTIONS, "presence_penalty": 0.5}
    whole = destination.run("whole", PROMPT, **options)
    engine_id = running(source, **options)
    reservation = reserve(source, destination, engine_id, "r#2", 12 * BLOCK_TOKENS)
    copied = copy_stage(source, destination, engine_id, reservation, 0)
    serving = source.engine.serving

    def preempt_and_take():
        request = serving.scheduler.requests[engine_id]
        serving.scheduler.running.remove(request)
        serving.scheduler._preempt_request(request, time.monotonic())
        return None if again else serving.departures.withdraw(engine_id, copied)

    frozen = serving.thread.call(preempt_and_take).result(PATIENCE_S)
    if again:
        source.at_least(engine_id, len(source.outputs.of(engine_id).tokens) + 1)
        frozen = source.engine.freeze(engine_id, copied).result(PATIENCE_S)
    destination.engine.adopt(reservation, frozen).result(PATIENCE_S)
    source.engine.release(engine_id).result(PATIENCE_S)
    end = destination.finished("r#2")

    assert source.outputs.preempted == [engine_id]
    assert copied >= 3
    assert frozen.computed_tokens >= copied * BLOCK_TOKENS
    assert source.outputs.of(engine_id).tokens + end.tokens == whole.tokens


def test_a_withdrawn_request_can_go_on_where_it_was(site):
    prompt = prompt_of(3000, salt=31)
    options = {"max_tokens": 10, "ignore_eos": True, "temperature": 1.0, "seed": 6}
    whole = site.run("whole", prompt, **options)
    for number in range(2):
        site.add(f"long{number}", prompt_of(3900, salt=number), max_tokens=150, ignore_eos=True)
    site.add("w", prompt, **options)

    site.engine.withdraw("w#1", 0).result(PATIENCE_S)
    assert failure(site.engine.withdraw("w#1", 0)) == "it is frozen, not waiting"
    site.engine.thaw("w#1").result(PATIENCE_S)
    site.engine.abort(["long0#1", "long1#1"]).result(PATIENCE_S)

    assert site.finished("w#1").tokens == whole.tokens
    assert failure(site.engine.withdraw("w#1", 0)) == "it is not here (any more)"


def test_requests_of_a_withdrawn_kind_hold_no_slot(site):
    """Aborting a withdrawn request leaves nothing behind; all slots are free again."""
    slots = site.engine.serving.scheduler.free_slots
    for number in range(2):
        site.add(f"long{number}", prompt_of(3900, salt=number), max_tokens=150, ignore_eos=True)
    site.add("w", prompt_of(3000, salt=32), max_tokens=5)
    site.engine.withdraw("w#1", 0).result(PATIENCE_S)
    site.engine.abort(["w#1", "long0#1", "long1#1"]).result(PATIENCE_S)

    assert site.engine.serving.scheduler.free_slots == slots
