"""Serving on a real engine: what comes in, what goes out, and what must not end it."""

from __future__ import annotations

import logging

import pytest

from tests.vllm_engine.harness import BLOCK_TOKENS, PATIENCE_S, prompt_of

pytestmark = pytest.mark.engine

RESUMED_SAMPLINGS = [
    {"temperature": 0.0},
    {"temperature": 1.0, "seed": 3},
    {"temperature": 1.0, "seed": 4, "presence_penalty": 0.9, "repetition_penalty": 1.3, "min_tokens": 50},
]


def test_each_gateway_gets_its_own_outputs(site):
    site.add("r", prompt_of(20), gateway="one", max_tokens=5, ignore_eos=True)
    site.add("s", prompt_of(30), gateway="two", max_tokens=5, ignore_eos=True)

    assert site.finished("r#1").clients == {"one"}
    assert site.finished("s#1").clients == {"two"}
    assert len(site.outputs.of("r#1").tokens) == 5
    assert site.outputs.of("r#1").finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ([], {}, "prompt_token_ids is empty"),
        ([5, 720], {}, r"prompt_token_ids\[1\] is 720: must be from 0 to 719"),
        ([5, -1], {}, r"prompt_token_ids\[1\] is -1"),
        ([5] * 4096, {}, "the model takes 4096"),
        ([5], {"prior_token_ids": [1] * 16}, "16 tokens are made already and max_tokens is 16"),
        ([5], {"prior_token_ids": [9999]}, r"prior_token_ids\[0\]"),
        ([5], {"logprobs": 1000}, "logprobs is 1000: must be at most 20"),
        ([5], {"logit_bias": {4000: 1.0}}, "logit_bias"),
        ([5], {"min_tokens": 4, "stop_token_ids": [100000]}, "stop_token_ids"),
        ([5], {"allowed_token_ids": [100000]}, "allowed_token_ids"),
    ],
)
def test_a_request_that_cannot_run_is_refused_with_the_reason(site, prompt, options, reason):
    from engine_agents.vllm_engine.requests import make_add

    outcome = site.engine.add("gateway", make_add("r", prompt, **options)).result(PATIENCE_S)

    assert not outcome.accepted
    assert outcome.reason.startswith("invalid: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.reason)
    assert site.run("after", prompt_of(10), max_tokens=2).finish_reason == "length"


def test_bytes_that_are_no_request_are_refused(site):
    from engine_agents.vllm_engine.requests import make_add

    add = make_add("r", [1, 2, 3])
    add.engine_request = add.engine_request[:-7]

    outcome = site.engine.add("gateway", add).result(PATIENCE_S)

    assert not outcome.accepted
    assert "not a request in vLLM's encoding" in outcome.reason


def test_the_same_id_is_not_taken_twice(site):
    from engine_agents.vllm_engine.requests import make_add

    site.add("r", prompt_of(20), max_tokens=30, ignore_eos=True)
    again = site.engine.add("gateway", make_add("r", prompt_of(20))).result(PATIENCE_S)

    assert (again.accepted, again.reason) == (False, "invalid: r#1 is here already")
    assert len(site.finished("r#1").tokens) == 30


def test_only_if_fits_is_refused_with_the_room_there_is(site):
    from engine_agents.vllm_engine.requests import make_add

    capacity = site.info.total_blocks * site.info.block_size_tokens
    long = {"max_tokens": 400, "ignore_eos": True}
    for number in range(2):
        site.add(f"long{number}", prompt_of(3600, salt=number), **long)
    refused = site.engine.add("gateway", make_add("r", prompt_of(1500), only_if_fits=True)).result(PATIENCE_S)
    taken = site.engine.add("gateway", make_add("s", prompt_of(100), only_if_fits=True)).result(PATIENCE_S)

    assert (refused.accepted, refused.reason) == (False, "no_room")
    assert 0 < refused.room_tokens <= capacity - 2 * 3600
    assert taken.accepted
    assert taken.room_tokens < refused.room_tokens
    site.engine.abort(["long0#1", "long1#1", "s#1"]).result(PATIENCE_S)


def test_abort_gives_the_blocks_back_and_says_nothing(site):
    site.add("r", prompt_of(200), max_tokens=2000, ignore_eos=True)
    site.at_least("r#1", 3)
    assert site.engine.load().used_blocks >= 200 // BLOCK_TOKENS

    site.engine.abort(["r#1", "unknown#4"]).result(PATIENCE_S)

    load = site.engine.load()
    assert (load.used_blocks, load.running) == (0, 0)
    assert site.outputs.of("r#1").finish_reason is None


@pytest.mark.parametrize("sampling", RESUMED_SAMPLINGS)
@pytest.mark.parametrize("prior", [1, 40])
def test_a_recovered_request_goes_on_from_its_tokens(sites, sampling, prior):
    """Recovery: the tokens that were made are given, everything else is computed again."""
    first, second = sites
    options = {"max_tokens": 60, "ignore_eos": True, **sampling}
    prompt = prompt_of(300, salt=3)
    whole = first.run("whole", prompt, **options)

    resumed = second.run("r", prompt, dispatch=2, prior_token_ids=whole.tokens[:prior], **options)

    assert resumed.first_start == prior
    assert resumed.tokens == whole.tokens[prior:]
    assert resumed.finish_reason == "length"


def test_recovery_with_one_wrong_token_differs(sites):
    """Negative control of the test above."""
    first, second = sites
    options = {"max_tokens": 60, "ignore_eos": True, "temperature": 1.0, "seed": 3}
    prompt = prompt_of(300, salt=3)
    whole = first.run("whole", prompt, **options)
    prior = [*whole.tokens[:19], (whole.tokens[19] + 1) % 700]

    assert second.run("r", prompt, prior_token_ids=prior, **options).tokens != whole.tokens[20:]


def test_a_seeded_request_survives_a_prefill_in_chunks(sites):
    """On the stock runner this ends a CPU engine; and the tokens must not depend on the chunks."""
    first, second = sites
    options = {"max_tokens": 30, "ignore_eos": True, "temperature": 1.0, "seed": 8}
    prompt = prompt_of(1800, salt=4)

    chunked = first.run("chunked", prompt, **options)
    from_cache = first.run("from-cache", prompt, **options)
    beside_others = [
        second.add(f"other{n}", prompt_of(700, salt=n), max_tokens=50, ignore_eos=True, seed=n)
        for n in range(3)
    ]
    mixed = second.run("mixed", prompt, **options)

    assert chunked.tokens == from_cache.tokens == mixed.tokens
    for engine_id in beside_others:
        second.finished(engine_id)


def test_a_step_that_fails_ends_the_new_request_and_no_other(site, caplog):
    """With the stock runner a chunked seeded prefill raises; the request that ran before goes on."""
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    from engine_agents.vllm_engine.worker import SeedSafeCpuRunner

    options = {"max_tokens": 120, "ignore_eos": True, "temperature": 1.0, "seed": 2}
    prompt = prompt_of(90, salt=5)
    whole = site.run("whole", prompt, **options)
    runner = site.engine.serving.thread.states._runner

    site.add("r", prompt, **options)
    site.at_least("r#1", 20)
    runner.__class__ = CPUModelRunner
    try:
        with caplog.at_level(logging.CRITICAL):
            failed = site.run("culprit", prompt_of(1500, salt=6), temperature=1.0, seed=1, max_tokens=5)
    finally:
        runner.__class__ = SeedSafeCpuRunner
    end = site.finished("r#1")

    assert (failed.tokens, failed.finish_reason) == ([], "error")
    assert end.tokens == whole.tokens
    assert site.run("after", prompt, **options).tokens == whole.tokens


def test_a_preempted_request_is_recomputed_to_the_same_tokens(site):
    """Three requests that grow beyond the cache: the least urgent is pre-empted, and goes on later."""
    options = {"max_tokens": 200, "ignore_eos": True, "temperature": 1.0}
    prompts = [prompt_of(2620, salt=n) for n in range(3)]
    before = site.engine.load().preemptions_total
    for number, prompt in enumerate(prompts):
        site.add(f"r{number}", prompt, seed=number, rank=number, **options)
    crowded = [site.finished(f"r{number}#1").tokens for number in range(3)]
    alone = [site.run(f"alone{n}", prompt, seed=n, **options).tokens for n, prompt in enumerate(prompts)]

    assert site.engine.load().preemptions_total > before
    assert site.outputs.preempted == ["r2#1"] * len(site.outputs.preempted)
    assert crowded == alone


def test_rank_decides_who_is_served_first_even_when_it_changes(site):
    """Of two requests that wait for room, the one whose rank was improved starts first."""
    for number in range(2):
        site.add(f"long{number}", prompt_of(3900, salt=number), max_tokens=150, ignore_eos=True)
    for number in range(2):
        site.add(f"wait{number}", prompt_of(3000, salt=7 + number), max_tokens=100, ignore_eos=True, rank=2)
    site.engine.set_rank(["wait1#1", "unknown#1"], 0).result(PATIENCE_S)
    waiting = site.engine.load().waiting

    first = site.at_least("wait1#1", 1)
    assert waiting == 2
    assert site.outputs.of("wait0#1").tokens == []
    assert first.finish_reason is None
    site.engine.abort([f"{kind}{number}#1" for kind in ("long", "wait") for number in range(2)]).result(
        PATIENCE_S
    )


def test_load_counts_by_class_and_in_blocks(site):
    options = {"max_tokens": 500, "ignore_eos": True}
    site.add("r", prompt_of(100), slo_class="interactive", **options)
    site.add("s", prompt_of(200, salt=1), slo_class="batch", **options)
    site.at_least("r#1", 2)
    site.at_least("s#1", 2)

    load = site.engine.load()
    infos = {info.request_id: info for info in site.engine.requests().result(PATIENCE_S)}

    assert (load.running, load.waiting, load.queued_blocks, load.unprefilled_tokens) == (2, 0, 0, 0)
    classes = {count.slo_class: count for count in load.per_class}
    assert {name: count.running for name, count in classes.items()} == {"batch": 1, "interactive": 1}
    assert classes["batch"].used_blocks > classes["interactive"].used_blocks
    assert load.used_blocks == sum(count.used_blocks for count in load.per_class)
    assert (infos["s"].state, infos["s"].prompt_tokens, infos["s"].slo_class) == ("running", 200, "batch")
    site.engine.abort(["r#1", "s#1"]).result(PATIENCE_S)


def test_structured_output_is_obeyed_and_recovered(sites):
    from vllm.sampling_params import StructuredOutputsParams

    first, second = sites
    structured = StructuredOutputsParams(regex=r"[0-9]{30}")
    structured._backend = "xgrammar"
    options = {
        "temperature": 1.0,
        "seed": 5,
        "max_tokens": 25,
        "ignore_eos": True,
        "structured_outputs": structured,
    }
    whole = first.run("whole", prompt_of(40), **options)
    resumed = second.run("r", prompt_of(40), prior_token_ids=whole.tokens[:9], **options)

    assert resumed.tokens == whole.tokens[9:]
    assert whole.tokens != first.run("free", prompt_of(40), **{**options, "structured_outputs": None}).tokens
