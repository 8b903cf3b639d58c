"""The source side of live migration: pin and read blocks, freeze, thaw, release.

Everything but :meth:`Departures.read` runs on the engine's thread, between steps.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.request import Request, RequestStatus

from engine_agents.engines.port import Frozen, MoveImpossible, Pinned, RequestState
from engine_agents.vllm_engine import images
from engine_agents.vllm_engine.kv_blocks import Blocks
from engine_agents.vllm_engine.scheduler import MovingScheduler
from engine_agents.vllm_engine.worker import RequestStates


@dataclass(slots=True)
class PinHandle:
    """Blocks that cannot be reused until they are unpinned; guards readers against that moment."""

    blocks: list[Any]
    """vLLM's ``KVCacheBlock`` objects."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: bool = True


class Departures:
    """Requests on their way out of one engine."""

    def __init__(
        self, scheduler: MovingScheduler, states: RequestStates, store: Blocks, vllm_version: str
    ) -> None:
        self._scheduler = scheduler
        self._states = states
        self._store = store
        self._version = vllm_version

    def image(self, engine_id: str) -> bytes:
        """The request as first sent. Raises ``MoveImpossible``, also for what cannot move (yet)."""
        request = self._request(engine_id)
        check_movable(request.sampling_params)
        live = self._scheduler.live[engine_id]
        return images.encode(
            images.RequestImage(
                engine_request=live.engine_request,
                slo_class=live.slo_class,
                tenant=live.tenant,
                rank=live.rank,
                prompt_tokens=live.prompt_tokens,
                vllm_version=self._version,
            )
        )

    def pin(self, engine_id: str, first_block: int) -> Pinned:
        """Pin the full blocks from ``first_block`` on; of a request that is gone: none."""
        request = self._scheduler.requests.get(engine_id)
        if request is None:
            return Pinned(engine_id, RequestState.GONE, first_block, 0, PinHandle([]))
        blocks = self._blocks(request)[
            first_block : request.num_computed_tokens // self._scheduler.block_size
        ]
        self._scheduler.kv_cache_manager.block_pool.touch(blocks)
        return Pinned(
            engine_id=engine_id,
            state=self.state_of(request),
            first_block=first_block,
            blocks=len(blocks),
            handle=PinHandle(list(blocks)),
            output_tokens=request.num_output_tokens,
            total_tokens=request.num_tokens,
            computed_tokens=request.num_computed_tokens,
        )

    def read(self, pinned: Pinned, first: int, count: int, target: memoryview) -> None:
        """Lay ``count`` pinned blocks from block ``first`` of the request on into ``target``; any thread."""
        handle = _handle(pinned)
        start = first - pinned.first_block
        if start < 0 or count < 0 or start + count > pinned.blocks:
            last = pinned.first_block + pinned.blocks - 1
            raise ValueError(
                f"blocks {first} to {first + count - 1} are not among those pinned, up to {last}"
            )
        with handle.lock:
            if not handle.open:
                raise MoveImpossible("the blocks are not pinned any more")
            self._store.gather_into(
                [block.block_id for block in handle.blocks[start : start + count]], target
            )

    def unpin(self, pinned: Pinned) -> None:
        """Give the blocks back; a second time does nothing."""
        handle = _handle(pinned)
        with handle.lock:
            was_open, handle.open = handle.open, False
        if was_open:
            self._scheduler.kv_cache_manager.block_pool.free_blocks(reversed(handle.blocks))

    def freeze(self, engine_id: str, first_block: int) -> Frozen:
        """Take a running request out of the batch; hands out its tail and state in one piece."""
        request = self._request(engine_id)
        state = self.state_of(request)
        if state is not RequestState.RUNNING:
            raise MoveImpossible(f"it is {state}, not running")
        check_movable(request.sampling_params)
        tail = self._blocks(request)[
            first_block : blocks_for(request.num_computed_tokens, self._scheduler.block_size)
        ]
        frozen = self._taken(request, first_block, tail)
        self._scheduler.freeze(request)
        return frozen

    def withdraw(self, engine_id: str, first_block: int) -> Frozen:
        """Take a waiting (or pre-empted) request out of the queue: its tokens and state, no tail.

        Raises ``MoveImpossible`` when it is not waiting, or waits with KV.
        """
        request = self._request(engine_id)
        state = self.state_of(request)
        if state not in (RequestState.WAITING, RequestState.PREEMPTED):
            raise MoveImpossible(f"it is {state}, not waiting")
        if request.num_computed_tokens or self._blocks(request):
            raise MoveImpossible("it waits with its KV cache")
        check_movable(request.sampling_params)
        frozen = self._taken(request, first_block, [])
        self._scheduler.withdraw(request)
        return frozen

    def _taken(self, request: Request, first_block: int, tail: list[Any]) -> Frozen:
        """Blocks that were copied before count even where this side has lost them since."""
        copied = first_block * self._scheduler.block_size
        return Frozen(
            engine_id=request.request_id,
            first_block=first_block,
            blocks=len(tail),
            tail=self._store.gather([block.block_id for block in tail]),
            state=images.encode(self._sampler_state(request)),
            output_token_ids=tuple(request.output_token_ids),
            computed_tokens=max(request.num_computed_tokens, copied),
        )

    def thaw(self, engine_id: str) -> None:
        """Let a frozen or withdrawn request go on here. Raises ``MoveImpossible`` if it is not frozen."""
        self._scheduler.thaw(self._frozen(engine_id))

    def release(self, engine_id: str) -> None:
        """Forget a frozen request: it lives elsewhere. One that was aborted is forgotten already."""
        if engine_id in self._scheduler.requests:
            self._frozen(engine_id)
            self._scheduler.leave([engine_id])

    def state_of(self, request: Request) -> RequestState:
        """The request's state in the port's words."""
        if request.request_id in self._scheduler.frozen:
            return RequestState.FROZEN
        if request.status == RequestStatus.RUNNING:
            return RequestState.RUNNING
        live = self._scheduler.live.get(request.request_id)
        return RequestState.PREEMPTED if live is not None and live.preempted else RequestState.WAITING

    def _sampler_state(self, request: Request) -> images.SamplerState:
        structured = request.structured_output_request
        return images.SamplerState(
            generator=self._states.generator_state(request.request_id),
            device=self._states.device.type,
            reasoning_ended=None if structured is None else structured.reasoning_ended,
        )

    def _request(self, engine_id: str) -> Request:
        request = self._scheduler.requests.get(engine_id)
        if request is None or request.is_finished():
            raise MoveImpossible("it is not here (any more)")
        return request

    def _frozen(self, engine_id: str) -> Request:
        request = self._scheduler.frozen.get(engine_id)
        if request is None:
            raise MoveImpossible("it is not frozen here")
        return request

    def _blocks(self, request: Request) -> list[Any]:
        return list(self._scheduler.kv_cache_manager.get_blocks(request.request_id).blocks[0])


def check_movable(params: SamplingParams | None) -> None:
    """Raise ``MoveImpossible`` for a request whose state cannot be carried yet."""
    if params is None:
        raise MoveImpossible("pooling requests cannot move")
    if params.prompt_logprobs is not None:
        raise MoveImpossible("requests that ask for prompt_logprobs cannot move yet")


def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold so many tokens, the last one possibly partial."""
    return -(-tokens // block_size)


def _handle(pinned: Pinned) -> PinHandle:
    if not isinstance(pinned.handle, PinHandle):
        raise TypeError("pinned by another kind of engine")
    return pinned.handle
