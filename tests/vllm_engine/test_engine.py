"""The engine as an object: before it starts and after it has stopped."""

from __future__ import annotations

import pytest

from engine_agents.vllm_engine.engine import VllmEngine
from tests.vllm_engine.harness import PATIENCE_S, Outputs, agent_config, prompt_of


def test_nothing_can_be_asked_before_start(tmp_path):
    engine = VllmEngine(agent_config(tmp_path))

    with pytest.raises(RuntimeError, match="not started"):
        engine.load()
    engine.stop()


@pytest.mark.engine
def test_stop_ends_what_runs_and_refuses_what_comes(tiny_model):
    from engine_agents.vllm_engine.core import EngineStoppedError
    from engine_agents.vllm_engine.requests import make_add

    outputs = Outputs()
    engine = VllmEngine(agent_config(tiny_model))
    info = engine.start(on_step=outputs.on_step, on_preempted=outputs.preempted.append)
    engine.add("g", make_add("r", prompt_of(40), max_tokens=3000, ignore_eos=True)).result(PATIENCE_S)
    outputs.wait("r#1", lambda received: len(received.tokens) > 3)
    thread = engine.serving.thread
    engine.stop()

    assert (info.engine, info.engine_version, info.kv_bytes_per_token) == ("vllm", "0.32.0", 8192)
    config = agent_config(tiny_model)
    block_bytes = info.block_size_tokens * info.kv_bytes_per_token
    assert (info.total_blocks + 1) * block_bytes == config.kv_memory_bytes, "all but vLLM's null block"
    assert outputs.of("r#1").finish_reason is None
    assert isinstance(thread.call(lambda: None).exception(PATIENCE_S), EngineStoppedError)
    assert thread.ended
    with pytest.raises(RuntimeError, match="not started"):
        engine.load()
    engine.stop()


def test_the_first_use_of_penalties_and_logprobs_does_not_stall(site):
    """Without warming up it costs the engine's thread two seconds, some hundred times a plain request."""
    spent = site.first_uses_cpu_s

    assert spent["everything"] < 10 * spent["plain"]
