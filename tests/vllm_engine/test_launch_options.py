"""A configuration that cannot work is one sentence, before anything is loaded."""

from __future__ import annotations

import pytest

from engine_agents.vllm_engine import environment
from engine_agents.vllm_engine.launch_options import (
    StartError,
    check_memory,
    check_model,
    engine_arguments,
    explain_failure,
)
from tests.vllm_engine.harness import agent_config


@pytest.mark.parametrize("model", ["/nowhere/at-all", "./missing", "~/models/x", ""])
def test_a_missing_folder_is_named(model):
    with pytest.raises(StartError, match="does not exist: give a folder"):
        check_model(model)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(StartError, match=r"holds no config\.json"):
        check_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StartError, match="holds no weights"):
        check_model(str(tmp_path))


def test_hub_names_are_left_to_the_hub():
    check_model("meta-llama/Llama-3.1-8B-Instruct")


@pytest.mark.skipif(environment.has_nvidia_gpu(), reason="main memory is not the limit on a GPU")
def test_too_little_memory_is_said_in_mebibytes(tmp_path):
    config = agent_config(tmp_path, kv_memory_bytes=2**30)

    check_memory(config, 2**31)
    with pytest.raises(StartError, match="need 1024 MiB of memory, but only 512 MiB are free"):
        check_memory(config, 2**29)


def test_a_cache_of_nothing_is_refused(tmp_path):
    with pytest.raises(StartError, match="kv_memory_bytes is 0"):
        check_memory(agent_config(tmp_path, kv_memory_bytes=0), 2**40)


def test_unknown_and_reserved_arguments_are_named(tmp_path):
    with pytest.raises(StartError, match="no argument 'max_sequences'"):
        engine_arguments(agent_config(tmp_path, engine_args={"max_sequences": 3}), on_gpu=False)
    with pytest.raises(StartError, match="async_scheduling is set by the agent"):
        engine_arguments(agent_config(tmp_path, engine_args={"async_scheduling": True}), on_gpu=False)


def test_sixteen_bit_falls_back_on_a_cpu_and_says_so(tmp_path, caplog):
    config = agent_config(tmp_path, engine_args={"dtype": "bfloat16"})

    assert engine_arguments(config, on_gpu=False)["dtype"] == "float32"
    assert "dtype bfloat16 is not safe on this CPU: float32 is used" in caplog.text
    assert engine_arguments(config, on_gpu=True)["dtype"] == "bfloat16"


def test_whatever_fails_becomes_one_sentence(tmp_path):
    config = agent_config(tmp_path)
    too_small = ValueError(
        "To serve at least one request with the models's max seq len (4096), 1 GiB KV cache ..."
    )

    assert "raise kv_memory_bytes" in str(explain_failure(too_small, config))
    assert "could not load" in str(explain_failure(RuntimeError("line one\nline two"), config))
    assert "\n" not in str(explain_failure(RuntimeError("line one\nline two"), config))
    assert "lower kv_memory_bytes" in str(explain_failure(MemoryError(), config))


@pytest.mark.engine
def test_start_raises_them(tmp_path, tiny_model):
    """One too small a cache and one broken model, by the whole way."""
    from engine_agents.vllm_engine.engine import VllmEngine

    def start(config):
        VllmEngine(config).start(on_step=lambda steps: None, on_preempted=lambda engine_id: None)

    with pytest.raises(StartError, match="does not exist"):
        start(agent_config("/nowhere/at-all"))
    with pytest.raises(StartError, match="too little for one request of the longest length"):
        start(agent_config(tiny_model, kv_memory_bytes=4 * 2**20))
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(StartError, match="vLLM does not take this configuration"):
        start(agent_config(tmp_path))
