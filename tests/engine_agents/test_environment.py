"""What is set for vLLM, and how it is loaded."""

from __future__ import annotations

import gc

import pytest

from engine_agents.vllm_engine.environment import loading


@pytest.mark.parametrize("looked", [True, False])
def test_garbage_is_not_looked_for_while_vllm_loads_and_afterwards_as_before(looked: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if looked else gc.disable)()
        with pytest.raises(ImportError), loading():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() is looked
    finally:
        (gc.enable if before else gc.disable)()
