"""Engines whose model lives in worker processes (vLLM's multiprocess executor): requests move as well."""

from __future__ import annotations

import pytest

from tests.vllm_engine.harness import BLOCK_TOKENS, Site, move, prompt_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads two engines and their worker processes

OPTIONS = {
    "max_tokens": 120,
    "ignore_eos": True,
    "temperature": 1.0,
    "seed": 5,
    "presence_penalty": 0.6,
    "logprobs": 2,
}


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_request_moves_between_engines_of_several_processes(tiny_model, ranks):
    engine_args = {"block_size": BLOCK_TOKENS, "distributed_executor_backend": "mp"}
    engine_args |= {"tensor_parallel_size": ranks}
    sites = []
    try:
        sites += [Site.started(name, tiny_model, **engine_args) for name in ("c", "d")]
        there_and_back(*sites)
    finally:
        for site in sites:
            site.engine.stop()


def there_and_back(source: Site, destination: Site) -> None:
    prompt = prompt_of(300, salt=3)
    whole = destination.run("whole", prompt, **OPTIONS)
    source.at_least(source.add("r", prompt, **OPTIONS), 20)
    copied = move(source, destination, "r#1", "r#2")
    destination.at_least("r#2", 20)
    move(destination, source, "r#2", "r#3")
    end = source.finished("r#3")
    parts = [source.outputs.of("r#1"), destination.outputs.of("r#2"), end]
    assert copied >= 300 // BLOCK_TOKENS
    assert [token for part in parts for token in part.tokens] == whole.tokens
    assert [row for part in parts for row in part.logprobs] == whole.logprobs
    for site in (source, destination):
        site.wait_idle()
        assert site.engine.load().used_blocks == 0
