"""Is this request one that the engine can run, and is there room for it now?

vLLM's front half has validated a request before it comes here. It is validated
again, because a request that slips through may stop the engine for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest

from engine_agents.vllm_engine.load import promised_blocks
from engine_agents.vllm_engine.scheduler import MovingScheduler


class InvalidRequestError(ValueError):
    """This engine cannot run the request; ``str(self)`` says why."""


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What the loaded model can take."""

    vocabulary: int
    max_model_len: int
    max_logprobs: int
    """-1: no limit but the vocabulary."""
    lora: bool
    block_size_tokens: int
    total_blocks: int


def check_request(request: EngineCoreRequest, prior: Sequence[int], limits: ModelLimits) -> SamplingParams:
    """Raise :class:`InvalidRequestError` unless this engine can run it; returns its parameters."""
    params = request.sampling_params
    if params is None or request.pooling_params is not None:
        raise InvalidRequestError("pooling requests are not served here")
    _check_kind(request, limits)
    prompt = request.prompt_token_ids or []
    if not prompt:
        raise InvalidRequestError("prompt_token_ids is empty")
    _check_tokens("prompt_token_ids", prompt, limits.vocabulary)
    _check_tokens("prior_token_ids", prior, limits.vocabulary)
    _check_length(len(prompt), len(prior), params, limits)
    _check_sampling(params, limits)
    return params


def _check_kind(request: EngineCoreRequest, limits: ModelLimits) -> None:
    if request.prompt_embeds is not None:
        raise InvalidRequestError("prompt_embeds is not supported: send tokens")
    if request.mm_features:
        raise InvalidRequestError("images, audio and video are not supported yet: send text")
    if request.resumable:
        raise InvalidRequestError("streaming input (resumable) is not supported")
    if request.lora_request is not None and not limits.lora:
        raise InvalidRequestError("this engine was started without LoRA support")


def _check_tokens(name: str, tokens: Iterable[int], vocabulary: int) -> None:
    known = list(tokens)
    if not known or (min(known) >= 0 and max(known) < vocabulary):
        return
    for position, token in enumerate(known):
        if not 0 <= token < vocabulary:
            raise InvalidRequestError(f"{name}[{position}] is {token}: must be from 0 to {vocabulary - 1}")


def _check_length(prompt: int, prior: int, params: SamplingParams, limits: ModelLimits) -> None:
    if params.max_tokens is None or params.max_tokens < 1:
        raise InvalidRequestError(f"max_tokens is {params.max_tokens}: must be at least 1")
    if prior >= params.max_tokens:
        raise InvalidRequestError(f"{prior} tokens are made already and max_tokens is {params.max_tokens}")
    if prompt + prior >= limits.max_model_len:
        raise InvalidRequestError(
            f"{prompt + prior} tokens leave no room for an answer: the model takes {limits.max_model_len}"
        )
    capacity = limits.total_blocks * limits.block_size_tokens
    if prompt + prior + 1 > capacity:
        raise InvalidRequestError(f"{prompt + prior} tokens do not fit into a KV cache of {capacity} tokens")


def _check_sampling(params: SamplingParams, limits: ModelLimits) -> None:
    most = limits.vocabulary if limits.max_logprobs < 0 else limits.max_logprobs
    for name, count in (("logprobs", params.logprobs), ("prompt_logprobs", params.prompt_logprobs)):
        if count is not None and not -1 <= count <= most:
            raise InvalidRequestError(f"{name} is {count}: must be at most {most}")
        if count == -1 and limits.max_logprobs >= 0:
            raise InvalidRequestError(f"{name} is -1 (all): must be at most {most}")
    _check_tokens("allowed_token_ids", params.allowed_token_ids or (), limits.vocabulary)
    _check_tokens("logit_bias", params.logit_bias or (), limits.vocabulary)
    if params.min_tokens > 0:
        _check_tokens("stop_token_ids", params.all_stop_token_ids, limits.vocabulary)
    _check_tokens("logprob_token_ids", params.logprob_token_ids or (), limits.vocabulary)
    for number in (params.temperature, params.top_p, params.min_p, params.repetition_penalty):
        if number != number or number in (float("inf"), float("-inf")):
            raise InvalidRequestError("a sampling parameter is not a finite number")


def room_tokens(scheduler: MovingScheduler) -> int:
    """Tokens that a new request could start with now, behind what waits already; 0 if no slot is free."""
    waiting = len(scheduler.waiting) + len(scheduler.kv_holding_waiting)
    if scheduler.free_slots - waiting <= 0:
        return 0
    free = scheduler.kv_cache_manager.block_pool.get_num_free_blocks() - promised_blocks(scheduler)
    return max(0, int(free)) * int(scheduler.block_size)


def fits(scheduler: MovingScheduler, tokens: int) -> bool:
    """Whether a request of so many tokens could start in the next step and make one more."""
    return tokens + 1 <= room_tokens(scheduler)
