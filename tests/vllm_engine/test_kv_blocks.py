"""Gather and scatter, on tensors laid out as vLLM lays them out."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from engine_agents.vllm_engine.kv_blocks import BlockStore, by_block

BLOCKS = 9


def layers(device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Three layers, each an allocation of its own, filled with random numbers."""
    generator = torch.Generator().manual_seed(5)
    shape = (BLOCKS, 2, 4, 6)
    return [torch.randn(shape, generator=generator).to(device=device, dtype=dtype) for _ in range(3)]


def fused_layers() -> list[torch.Tensor]:
    """Three layers as views of one allocation whose outermost dimension counts blocks."""
    whole = torch.randn((BLOCKS, 3, 2, 4, 6), generator=torch.Generator().manual_seed(6))
    return [whole[:, layer] for layer in range(3)]


def finer_layers() -> list[torch.Tensor]:
    """The kernel's blocks are half as long as the scheduler's."""
    return [layer.reshape(BLOCKS * 2, 1, 4, 6) for layer in layers()]


@pytest.mark.parametrize("make", [layers, fused_layers, finer_layers])
@pytest.mark.parametrize("ids", [[3], [8, 0, 5], list(range(BLOCKS))])
def test_what_is_scattered_elsewhere_is_what_was_gathered(make, ids):
    source, destination = make(), [torch.zeros_like(layer) for layer in make()]
    if make is fused_layers:
        whole = torch.zeros((BLOCKS, 3, 2, 4, 6))
        destination = [whole[:, layer] for layer in range(3)]
    elsewhere = [(number + 4) % BLOCKS for number in ids]

    data = BlockStore(source, BLOCKS).gather(ids)
    BlockStore(destination, BLOCKS).scatter(elsewhere, data)

    for before, after in zip(by_block(source, BLOCKS), by_block(destination, BLOCKS), strict=True):
        assert torch.equal(before[ids], after[elsewhere])
        untouched = [number for number in range(BLOCKS) if number not in elsewhere]
        assert not after[untouched].any()


def test_a_block_has_the_bytes_of_all_its_layers():
    store = BlockStore(layers(), BLOCKS)

    assert store.bytes_per_block == 3 * 2 * 4 * 6 * 4
    assert len(store.gather([1, 2])) == 2 * store.bytes_per_block
    assert store.gather([]) == b""


def test_sixteen_bit_blocks_and_read_only_frames():
    source, destination = layers(dtype=torch.bfloat16), layers(dtype=torch.bfloat16)
    destination[0][4] = 0
    data = BlockStore(source, BLOCKS).gather([4])

    BlockStore(destination, BLOCKS).scatter([4], memoryview(data).toreadonly())

    assert all(torch.equal(a, b) for a, b in zip(source, destination, strict=True))


def test_an_alias_is_copied_once():
    layer = layers()[0]

    assert BlockStore([layer, layer], BLOCKS).bytes_per_block == BlockStore([layer], BLOCKS).bytes_per_block


def test_wrong_lengths_and_layouts_are_errors():
    store = BlockStore(layers(), BLOCKS)
    with pytest.raises(ValueError, match=r"2 blocks are 1152 bytes, but 1148 were given"):
        store.scatter([1, 2], b"\0" * 1148)
    with pytest.raises(ValueError, match="does not hold 4 blocks"):
        BlockStore(layers(), 4)
    with pytest.raises(ValueError, match="no KV cache"):
        BlockStore([], BLOCKS)


def test_layout_tells_types_and_shapes_apart():
    assert BlockStore(layers(), BLOCKS).layout == BlockStore(layers(), BLOCKS).layout
    assert BlockStore(layers(), BLOCKS).layout != BlockStore(layers(dtype=torch.bfloat16), BLOCKS).layout
    assert BlockStore(layers(), BLOCKS).layout != BlockStore(layers()[:2], BLOCKS).layout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_of_a_cuda_cache_come_and_go_by_way_of_the_host(dtype):
    source = layers("cuda", dtype)
    destination = [torch.zeros_like(layer) for layer in source]
    torch.cuda.synchronize()  # copies have a stream of their own
    data = BlockStore(source, BLOCKS).gather([7, 2])
    BlockStore(destination, BLOCKS).scatter([0, 1], data)

    assert data == BlockStore(layers("cpu", dtype), BLOCKS).gather([7, 2])
    for before, after in zip(source, destination, strict=True):
        assert torch.equal(before[[7, 2]], after[[0, 1]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gathering_from_a_gpu_uses_a_good_part_of_the_link(record_property):
    """Scattered blocks of a realistic cache into host memory, against one plain copy from pinned memory."""
    blocks, picked = 2048, list(range(0, 2048, 16))
    cache = [torch.ones(blocks, 2, 16, 8, 128, dtype=torch.bfloat16, device="cuda") for _ in range(32)]
    store = BlockStore(cache, blocks)
    size = store.bytes_per_block * len(picked)
    target = memoryview(bytearray(size))
    plain = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    on_device = torch.empty(size, dtype=torch.uint8, device="cuda")

    link_s = best_seconds(lambda: plain.copy_(on_device))
    gather_s = best_seconds(lambda: store.gather_into(picked, target))
    scatter_s = best_seconds(lambda: store.scatter(picked, target))

    record_property("link_gib_per_s", size / 2**30 / link_s)
    record_property("gather_share_of_link", link_s / gather_s)
    record_property("scatter_share_of_link", link_s / scatter_s)
    assert link_s / gather_s > 0.05
    assert link_s / scatter_s > 0.05


def best_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)
