"""Pay for first uses before any client does: logprobs, penalties, seeded and filtered sampling, memory.

Their first use loads kernels and allocates masks, which stalls an engine for up to
two seconds, and the system gives main memory only when it is first written to.
Runs on the engine's thread, before it is ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine_agents.vllm_engine.live import LiveRequest
from engine_agents.vllm_engine.requests import make_request

if TYPE_CHECKING:
    from engine_agents.vllm_engine.core import EngineThread

PROMPT_TOKENS = 40
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0, "logprobs": 2},
    {
        "temperature": 0.8,
        "seed": 1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.1,
    },
    {"temperature": 0.8, "top_p": 0.9, "top_k": 20, "min_p": 0.05},
    {"temperature": 0.0, "min_tokens": 2, "logit_bias": {1: 1.0}, "stop_token_ids": [0]},
)


def warm_up(engine: EngineThread) -> None:
    """Run one small request of each kind, alone and together; leaves no trace in cache or counters."""
    vocabulary = engine.states.vocabulary
    for together in (False, True):
        for number, sampling in enumerate(SAMPLINGS):
            prompt = [(7 * position + number) % vocabulary for position in range(PROMPT_TOKENS)]
            _add(engine, f"warm-up-{number}", prompt, sampling)
            if not together:
                _finish(engine)
        _finish(engine)
    engine.states.touch_memory()
    engine.scheduler.kv_cache_manager.reset_prefix_cache()
    engine.counters.steps = engine.counters.tokens = 0
    engine.counters.seconds = 0.0


def _add(engine: EngineThread, engine_id: str, prompt: list[int], sampling: dict[str, Any]) -> None:
    request = make_request(engine_id, prompt, max_tokens=3, ignore_eos=True, **sampling)
    request.client_index = engine.clients.number("")
    made, _ = engine.core.preprocess_add_request(request)
    live = LiveRequest(engine_id, "", "", "", 0, len(prompt), b"", request.arrival_time)
    engine.scheduler.add_new(made, live)


def _finish(engine: EngineThread) -> None:
    while engine.scheduler.has_requests():
        engine.step()
