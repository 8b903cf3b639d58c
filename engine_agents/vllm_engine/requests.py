"""Requests made by hand, without vLLM's front half: for tests, benchmarks and warm-up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreRequest

from engine_agents import messages
from engine_agents.vllm_engine import codec


def make_request(
    engine_id: str,
    prompt_token_ids: Sequence[int],
    *,
    arrival_time: float | None = None,
    eos_token_ids: Sequence[int] = (),
    **sampling: Any,
) -> EngineCoreRequest:
    """What vLLM's input processor would make of a prompt of tokens.

    ``sampling`` are fields of ``SamplingParams``; ``max_tokens`` is 16 unless given.
    """
    params = SamplingParams(**sampling)
    params.output_kind = RequestOutputKind.DELTA
    if eos_token_ids:
        params.update_from_generation_config({"eos_token_id": list(eos_token_ids)}, eos_token_ids[0])
    return EngineCoreRequest(
        request_id=engine_id,
        prompt_token_ids=list(prompt_token_ids),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=time.time() if arrival_time is None else arrival_time,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id=engine_id,
    )


def make_add(
    request_id: str,
    prompt_token_ids: Sequence[int],
    *,
    dispatch: int = 1,
    prior_token_ids: Sequence[int] = (),
    slo_class: str = "standard",
    tenant: str = "",
    rank: int = 1,
    only_if_fits: bool = False,
    **sampling: Any,
) -> messages.Add:
    """The gateway's ``Add`` for a prompt of tokens; ``sampling`` as in :func:`make_request`."""
    request = make_request(messages.engine_id(request_id, dispatch), prompt_token_ids, **sampling)
    return messages.Add(
        request_id=request_id,
        dispatch=dispatch,
        seq=0,
        engine_request=codec.encode_request(request),
        prior_token_ids=list(prior_token_ids),
        slo_class=slo_class,
        tenant=tenant,
        rank=rank,
        prompt_tokens=len(prompt_token_ids),
        only_if_fits=only_if_fits,
    )
