"""A moved request makes the tokens that it would have made had it stayed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.vllm_engine.harness import BLOCK_TOKENS, Received, move, prompt_of

pytestmark = pytest.mark.engine

TOKENS = 130
SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "seeded": {"temperature": 1.0, "seed": 7},
    "everything": {
        "temperature": 0.9,
        "seed": 11,
        "top_p": 0.95,
        "top_k": 50,
        "presence_penalty": 0.7,
        "frequency_penalty": 0.4,
        "repetition_penalty": 1.2,
        "min_tokens": 110,
        "stop_token_ids": list(range(6, 300)),
        "logprobs": 3,
        "ignore_eos": False,
    },
}


def assert_same(moved: list[Received], stayed: Received) -> None:
    assert [token for part in moved for token in part.tokens] == stayed.tokens
    assert (moved[-1].finish_reason, moved[-1].stop_reason) == (stayed.finish_reason, stayed.stop_reason)
    logprobs = [row for part in moved for row in part.logprobs]
    assert [ids for ids, _ in logprobs] == [ids for ids, _ in stayed.logprobs]
    for (_, values), (_, expected) in zip(logprobs, stayed.logprobs, strict=True):
        assert values == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("prompt_tokens", [50, 700, 1800])
def test_a_request_moved_in_stages_is_identical(sites, prompt_tokens, sampling):
    source, destination = sites
    options = {"max_tokens": TOKENS, "ignore_eos": True, **SAMPLINGS[sampling]}
    prompt = prompt_of(prompt_tokens)
    stayed = destination.run("stayed", prompt, **options)

    engine_id = source.add("r", prompt, **options)
    begun = len(source.at_least(engine_id, 20).tokens)
    copied = move(
        source,
        destination,
        engine_id,
        "r#2",
        between_stages=lambda: source.at_least(engine_id, begun + BLOCK_TOKENS + 2) and None,
    )
    end = destination.finished("r#2")

    before = source.outputs.of(engine_id)
    assert copied > begun // BLOCK_TOKENS
    assert (end.first_start, before.finish_reason) == (len(before.tokens), None)
    assert len(end.tokens) > 1
    assert_same([before, end], stayed)


def test_there_and_back_again(sites):
    """A chain a -> b -> a: the request is moved with the state that a move brought."""
    first, second = sites
    options = {"max_tokens": TOKENS, "ignore_eos": True, "temperature": 1.0, "seed": 5}
    prompt = prompt_of(200, salt=1)
    stayed = first.run("stayed", prompt, **options)

    first.at_least(first.add("r", prompt, **options), 10)
    move(first, second, "r#1", "r#2")
    second.at_least("r#2", 30)
    move(second, first, "r#2", "r#3")
    end = first.finished("r#3")

    assert_same([first.outputs.of("r#1"), second.outputs.of("r#2"), end], stayed)


def test_several_at_once_in_both_directions(sites):
    first, second = sites
    options = [{"max_tokens": 100, "ignore_eos": True, "temperature": 1.0, "seed": n} for n in range(6)]
    prompts = [prompt_of(60 + 40 * n, salt=n) for n in range(6)]
    stayed = [
        (first, second)[n % 2].run(f"stayed{n}", prompt, **options[n]) for n, prompt in enumerate(prompts)
    ]

    ways = [(first, second) if n % 2 else (second, first) for n in range(6)]
    for n, (source, _) in enumerate(ways):
        source.add(f"r{n}", prompts[n], **options[n])
    for n, (source, destination) in enumerate(ways):
        source.at_least(f"r{n}#1", 3)
        move(source, destination, f"r{n}#1", f"r{n}#2")
    for n, (source, destination) in enumerate(ways):
        end = destination.finished(f"r{n}#2")
        assert_same([source.outputs.of(f"r{n}#1"), end], stayed[n])


def test_a_request_in_the_middle_of_its_prefill_moves(sites):
    source, destination = sites
    options = {"max_tokens": 20, "ignore_eos": True, "temperature": 1.0, "seed": 3}
    prompt = prompt_of(2900, salt=2)
    stayed = destination.run("stayed", prompt, **options)

    engine_id = source.add("r", prompt, **options)
    move(source, destination, engine_id, "r#2")
    end = destination.finished("r#2")

    before = source.outputs.of(engine_id)
    assert_same([before, end], stayed)


def test_without_the_generator_the_tokens_differ(sites):
    """Negative control: the comparison above would notice a sampler state that is not carried."""
    import torch

    from engine_agents.vllm_engine import images

    def without_generator(frozen):
        state = images.decode_sampler_state(frozen.state)
        assert state.generator
        state.generator = bytes(torch.Generator().manual_seed(7).get_state().numpy())
        return dataclasses.replace(frozen, state=images.encode(state))

    source, destination = sites
    options = {"max_tokens": TOKENS, "ignore_eos": True, **SAMPLINGS["seeded"]}
    prompt = prompt_of(100)
    stayed = destination.run("stayed", prompt, **options)
    source.at_least(source.add("r", prompt, **options), 10)
    move(source, destination, "r#1", "r#2", change=without_generator)
    end = destination.finished("r#2")

    assert source.outputs.of("r#1").tokens + end.tokens != stayed.tokens


def test_without_the_output_tokens_at_the_worker_the_tokens_differ(sites, monkeypatch):
    """Negative control: the runner's list of output tokens feeds penalties and ``min_tokens``."""
    source, destination = sites
    options = {"max_tokens": TOKENS, "ignore_eos": True, **SAMPLINGS["everything"]}
    prompt = prompt_of(100)
    stayed = destination.run("stayed", prompt, **options)
    states = destination.engine.serving.thread.states
    create = states.create

    def without_outputs(request, block_ids, generator):
        create(request, block_ids, generator)
        tokens = states._runner.requests[request.request_id].output_token_ids
        tokens[:] = [0] * len(tokens)

    monkeypatch.setattr(states, "create", without_outputs)
    source.at_least(source.add("r", prompt, **options), 10)
    move(source, destination, "r#1", "r#2")
    end = destination.finished("r#2")

    assert source.outputs.of("r#1").tokens + end.tokens != stayed.tokens
