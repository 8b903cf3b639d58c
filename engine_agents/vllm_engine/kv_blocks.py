"""KV blocks as bytes: gather from and scatter into the engine's own cache tensors.

The first dimension of every cache tensor counts blocks (vLLM 0.32 guarantees
it; where the attention kernel uses smaller blocks than the scheduler, a whole
number of them makes one of ours). Layers that share one allocation whose
outermost dimension counts blocks are taken as one. The bytes of ``n`` blocks are
ordered by tensor, then block: one indexed copy per tensor on either side.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


class Blocks(ABC):
    """The KV blocks of one engine, wherever they are."""

    bytes_per_block: int
    beside_steps: bool
    """Whether any thread may read and write them while a step runs; else only the engine's, between two."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """Equal for two engines exactly when the bytes of a block mean the same."""

    def gather(self, block_ids: Sequence[int]) -> bytearray:
        """Bytes of these blocks, in this order."""
        buffer = bytearray(self.bytes_per_block * len(block_ids))
        self.gather_into(block_ids, memoryview(buffer))
        return buffer

    def gather_into(self, block_ids: Sequence[int], buffer: memoryview) -> None:
        """The same into memory that is there. Raises ``ValueError`` when it has another length."""
        if len(buffer) != self.bytes_per_block * len(block_ids):
            raise ValueError(f"{len(block_ids)} blocks do not fill {len(buffer)} bytes")
        if block_ids:
            self._read(block_ids, buffer)

    def scatter(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        """Inverse of :meth:`gather`. Raises ``ValueError`` when the length of ``data`` is wrong."""
        expected = self.bytes_per_block * len(block_ids)
        given = memoryview(data).nbytes
        if given != expected:
            raise ValueError(f"{len(block_ids)} blocks are {expected} bytes, but {given} were given")
        if block_ids:
            self._write(block_ids, data)

    @abstractmethod
    def _read(self, block_ids: Sequence[int], buffer: memoryview) -> None:
        """Some blocks, into a buffer of their length."""

    @abstractmethod
    def _write(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        """Some blocks, from data of their length."""

    @abstractmethod
    def close(self) -> None:
        """The engine has stopped."""


class BlockStore(Blocks):
    """Reads and writes blocks by their ids; any thread, as the caller guards against reuse."""

    beside_steps = True

    def __init__(self, kv_caches: Sequence[torch.Tensor], num_blocks: int) -> None:
        """Raises ``ValueError`` when a tensor is not laid out by blocks."""
        self._tensors = by_block(kv_caches, num_blocks)
        if not self._tensors:
            raise ValueError("the model has no KV cache: nothing can be moved")
        self._device = self._tensors[0].device
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._sizes = [tensor[0].numel() * tensor.element_size() for tensor in self._tensors]
        self.bytes_per_block = sum(self._sizes)

    @property
    def layout(self) -> str:
        shapes = [
            f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape[1:])}" for tensor in self._tensors
        ]
        return ",".join(shapes)

    def _read(self, block_ids: Sequence[int], buffer: memoryview) -> None:
        with torch.inference_mode(), self._beside_compute():
            ids = torch.tensor(block_ids, dtype=torch.long, device=self._device)
            for tensor, target in zip(self._tensors, self._parts(buffer, len(block_ids)), strict=True):
                if tensor.is_cpu:
                    torch.index_select(tensor, 0, ids, out=target)
                else:
                    target.copy_(torch.index_select(tensor, 0, ids))

    def _write(self, block_ids: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        with torch.inference_mode(), self._beside_compute():
            ids = torch.tensor(block_ids, dtype=torch.long, device=self._device)
            for tensor, source in zip(self._tensors, self._parts(data, len(block_ids)), strict=True):
                tensor.index_copy_(0, ids, source.to(self._device))

    def close(self) -> None:
        """The cache is the model runner's."""

    @contextmanager
    def _beside_compute(self) -> Iterator[None]:
        """On a GPU: copy on a stream of our own, and return when the copies are done.

        Blocks that are read were complete before the step that computed them returned;
        blocks that are written are not used before the writer has returned.
        """
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def _parts(self, buffer: bytes | bytearray | memoryview, count: int) -> list[torch.Tensor]:
        """Views of ``buffer``, one per cache tensor, each of ``count`` blocks."""
        parts = []
        offset = 0
        for tensor, size in zip(self._tensors, self._sizes, strict=True):
            flat = _view_bytes(buffer, offset, size * count)
            parts.append(flat.view(tensor.dtype).view(count, *tensor.shape[1:]))
            offset += size * count
        return parts


def by_block(kv_caches: Sequence[torch.Tensor], num_blocks: int) -> list[torch.Tensor]:
    """Views whose first dimension counts the scheduler's blocks; aliases are dropped."""
    views: list[torch.Tensor] = []
    seen: set[int] = set()
    for cache in kv_caches:
        storage = cache.untyped_storage()
        kernel_blocks, rest = divmod(cache.shape[0], num_blocks)
        if rest:
            raise ValueError(
                f"a KV cache tensor of shape {list(cache.shape)} does not hold {num_blocks} blocks "
                "in its first dimension"
            )
        stride_bytes = cache.stride(0) * cache.element_size() * kernel_blocks
        fused = storage.nbytes() == num_blocks * stride_bytes
        key = storage.data_ptr() if fused else cache.data_ptr()
        if key in seen:
            continue
        seen.add(key)
        views.append(
            _whole_storage(cache, num_blocks) if fused else cache.unflatten(0, (num_blocks, kernel_blocks))
        )
    return views


def _whole_storage(cache: torch.Tensor, num_blocks: int) -> torch.Tensor:
    blocks = torch.empty(0, dtype=cache.dtype, device=cache.device)
    return blocks.set_(cache.untyped_storage()).view(num_blocks, -1)


def _view_bytes(buffer: bytearray | memoryview | bytes, offset: int, size: int) -> torch.Tensor:
    """A byte tensor over ``buffer`` without a copy; valid while the caller holds the buffer.

    A received frame is read-only and torch knows no read-only tensors (it warns),
    so the view is made by address. Such a tensor is a source only.
    """
    address = np.frombuffer(buffer, dtype=np.uint8).ctypes.data + offset
    return torch.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype=torch.uint8)
