"""Blocks that are shared out among ranks: gathered and scattered through one piece of shared memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine_agents.vllm_engine.kv_blocks import Blocks
from engine_agents.vllm_engine.ranks import SCRATCH_BYTES, MovingRank, RankStates

BLOCKS, RANKS = 40, 2


class Rank(MovingRank):
    """One rank's worker as far as moves know it, with caches of its own."""

    def __init__(self, rank: int, width: int) -> None:
        self.rank = rank
        generator = torch.Generator().manual_seed(rank)
        caches = [torch.randn(BLOCKS, 2, width, generator=generator) for _ in range(3)]
        self.model_runner = SimpleNamespace(
            kv_caches=caches, device="cpu", input_batch=SimpleNamespace(vocab_size=720), requests={}
        )


class Ranks:
    """The executor's side of ``collective_rpc``: every rank, in order."""

    def __init__(self, width: int = 4) -> None:
        self.ranks = [Rank(rank, width) for rank in range(RANKS)]

    def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return [getattr(rank, method)(*args) for rank in self.ranks]


def blocks_of(executor: Ranks) -> Blocks:
    return RankStates(executor, BLOCKS).block_store(BLOCKS)


@pytest.mark.parametrize("width", [4, SCRATCH_BYTES // 4 // 2 // 3 // 4])
def test_what_is_scattered_into_other_ranks_is_what_was_gathered(width):
    """The wider one needs several turns of the shared memory."""
    source, destination = Ranks(width), Ranks(width)
    store, other = blocks_of(source), blocks_of(destination)
    picked, targets = [7, 2, 30, 11, 5], [0, 1, 2, 3, 4]

    other.scatter(targets, store.gather(picked))

    for before, after in zip(source.ranks, destination.ranks, strict=True):
        for one, two in zip(before.model_runner.kv_caches, after.model_runner.kv_caches, strict=True):
            assert torch.equal(one[picked], two[targets])
    assert store.bytes_per_block == RANKS * 3 * 2 * width * 4
    assert store.layout == other.layout
    assert store.layout.startswith("2 ranks of ")
    for one in (store, other):
        one.close()


def test_wrong_lengths_are_errors():
    store = blocks_of(Ranks())
    with pytest.raises(ValueError, match="2 blocks are 384 bytes, but 383 were given"):
        store.scatter([1, 2], bytes(383))
    with pytest.raises(ValueError, match="1 blocks do not fill 10 bytes"):
        store.gather_into([1], memoryview(bytearray(10)))
    store.close()
