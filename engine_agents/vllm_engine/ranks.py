"""Engines of several ranks: the same parts of a move, where the model lives in worker processes.

vLLM's multiprocess executor has one process per rank. What a move needs of the model
runner and of the KV cache is asked of all ranks by ``collective_rpc``, between two
steps; every rank holds its share of each block. Bytes pass through one piece of
shared memory: a rank's share of the blocks lies at its place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.request import Request

from engine_agents.migration.arena import Arena, ArenaAddress, MappedArena
from engine_agents.vllm_engine.kv_blocks import Blocks, BlockStore
from engine_agents.vllm_engine.worker import RequestStates

EXTENSION = "engine_agents.vllm_engine.ranks.MovingRank"
SCRATCH_BYTES = 4 * 2**20
"""Of memory shared with the ranks: what one call to them copies at most."""


def request_states(executor: Executor, num_blocks: int) -> RequestStates:
    """In this process where the model is here, else of the processes that have it."""
    if isinstance(executor, UniProcExecutor):
        return RequestStates(executor.driver_worker.worker.model_runner)
    return RankStates(executor, num_blocks)


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Of vLLM's ``Request``, what a model runner's state of it is made from."""

    request_id: str
    prompt_token_ids: list[int] | None
    mm_features: Any
    sampling_params: Any
    num_computed_tokens: int
    output_token_ids: list[int]
    lora_request: Any


class MovingRank:
    """Mixed into vLLM's worker by ``worker_extension_cls``; called by name from the engine's process."""

    model_runner: Any
    rank: int

    def llumdeck_facts(self, num_blocks: int) -> tuple[str, int, str, int]:
        """Device, vocabulary, layout and bytes of this rank's share of a block."""
        self._llumdeck_states = RequestStates(self.model_runner)
        self._llumdeck_store = BlockStore(self.model_runner.kv_caches, num_blocks)
        states, store = self._llumdeck_states, self._llumdeck_store
        return states.device.type, states.vocabulary, store.layout, store.bytes_per_block

    def llumdeck_attach(self, address: ArenaAddress) -> None:
        self._llumdeck_arena = MappedArena(address, writable=True)

    def llumdeck_create(self, request: RankRequest, blocks: tuple[list[int], ...], state: bytes) -> None:
        states = self._llumdeck_states
        states.create(request, blocks, states.generator_from(state) if state else None)

    def llumdeck_generator_state(self, request_id: str) -> bytes:
        return self._llumdeck_states.generator_state(request_id)

    def llumdeck_forget(self, request_id: str) -> None:
        self._llumdeck_states.forget(request_id)

    def llumdeck_abandon_step(self) -> None:
        self._llumdeck_states.abandon_step()

    def llumdeck_touch_memory(self) -> None:
        self._llumdeck_states.touch_memory()

    def llumdeck_gather(self, block_ids: list[int]) -> None:
        self._llumdeck_store.gather_into(block_ids, self._llumdeck_share(len(block_ids)))

    def llumdeck_scatter(self, block_ids: list[int]) -> None:
        self._llumdeck_store.scatter(block_ids, self._llumdeck_share(len(block_ids)))

    def _llumdeck_share(self, count: int) -> memoryview:
        size = self._llumdeck_store.bytes_per_block * count
        return self._llumdeck_arena.slot(0, (self.rank + 1) * size)[self.rank * size :]


class RankStates(RequestStates):
    """As :class:`RequestStates`, for model runners in other processes. On the engine's thread."""

    def __init__(self, executor: Any, num_blocks: int) -> None:
        self._ask = executor.collective_rpc
        facts = self._ask("llumdeck_facts", args=(num_blocks,))
        self._device, self._vocabulary, layout, _ = facts[0]
        self.layout = f"{len(facts)} ranks of {layout}"
        self.bytes_per_block = sum(fact[3] for fact in facts)

    @property
    def device(self) -> torch.device:
        return torch.device(self._device)

    @property
    def vocabulary(self) -> int:
        return int(self._vocabulary)

    def block_store(self, num_blocks: int) -> Blocks:
        return RankBlocks(self._ask, self.layout, self.bytes_per_block)

    def touch_memory(self) -> None:
        self._ask("llumdeck_touch_memory")

    def generator_state(self, request_id: str) -> bytes:
        """All ranks draw alike: the first one's."""
        return bytes(self._ask("llumdeck_generator_state", args=(request_id,))[0])

    def create(
        self,
        request: Request | RankRequest,
        block_ids: tuple[list[int], ...],
        generator: torch.Generator | None,
    ) -> None:
        state = b"" if generator is None else bytes(generator.get_state().numpy().tobytes())
        fields = {name: getattr(request, name) for name in RankRequest.__slots__}
        fields["output_token_ids"] = list(request.output_token_ids)
        self._ask("llumdeck_create", args=(RankRequest(**fields), block_ids, state))

    def forget(self, request_id: str) -> None:
        self._ask("llumdeck_forget", args=(request_id,))

    def abandon_step(self) -> None:
        self._ask("llumdeck_abandon_step")


class RankBlocks(Blocks):
    """As :class:`BlockStore`, for a cache that is shared out among ranks. On the engine's thread."""

    beside_steps = False
    """vLLM's queue to the ranks has one writer, the engine's thread."""

    def __init__(self, ask: Any, layout: str, bytes_per_block: int) -> None:
        """``ask`` is the executor's ``collective_rpc``."""
        self._ask = ask
        self._layout = layout
        self.bytes_per_block = bytes_per_block
        self._per_turn = max(1, SCRATCH_BYTES // bytes_per_block)
        self._arena = Arena(self._per_turn * bytes_per_block, slots=1)
        self._ask("llumdeck_attach", args=(self._arena.address,))

    @property
    def layout(self) -> str:
        return self._layout

    def _read(self, block_ids: Sequence[int], buffer: memoryview) -> None:
        for ids, part in self._turns(block_ids, buffer):
            self._ask("llumdeck_gather", args=(ids,))
            part[:] = self._arena.slot(0, len(part))

    def _write(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        for ids, part in self._turns(block_ids, memoryview(data)):
            self._arena.slot(0, len(part))[:] = part
            self._ask("llumdeck_scatter", args=(ids,))

    def _turns(self, block_ids: Sequence[int], buffer: memoryview) -> Iterator[tuple[list[int], memoryview]]:
        """As many blocks at a time as the shared memory holds.

        The order of bytes depends on the cut. It is the same on both sides of a move: both have equal
        blocks, the spans of a chunk or tail are the same, and so is the shared memory's size.
        """
        for first in range(0, len(block_ids), self._per_turn):
            ids = list(block_ids[first : first + self._per_turn])
            yield ids, buffer[first * self.bytes_per_block :][: len(ids) * self.bytes_per_block]

    def close(self) -> None:
        self._arena.close()
