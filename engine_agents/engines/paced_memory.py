"""KV memory of the paced engine: real bytes in real blocks, with reference counts.

One record of ``kv_bytes_per_token`` bytes per token, its 64-bit value repeated;
the first eight bytes are what the next token is computed from, so copying the
wrong bytes shows at once as wrong tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes that do not change; ``record_bytes`` is a multiple of eight."""

    blocks: int
    block_size_tokens: int
    record_bytes: int

    @property
    def block_bytes(self) -> int:
        return self.block_size_tokens * self.record_bytes

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size_tokens)


class OutOfBlocksError(Exception):
    """Nothing was taken."""


class KvMemory:
    """Blocks by number. Taking and giving back happen on the engine's thread; reading and writing on any."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._bytes = bytearray(geometry.blocks * geometry.block_bytes)
        self._view = memoryview(self._bytes)
        self._free = list(range(geometry.blocks - 1, -1, -1))
        self._references = [0] * geometry.blocks

    @property
    def free_blocks(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """``count`` blocks with one reference each; raises :class:`OutOfBlocksError` and takes none."""
        if count > len(self._free):
            raise OutOfBlocksError(f"{count} blocks wanted, {len(self._free)} free")
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._references[block] = 1
        return taken

    def pin(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._references[block] += 1

    def give_back(self, blocks: Sequence[int]) -> None:
        """Drop one reference of each; a block without references is free. Raises on one that has none."""
        for block in blocks:
            if self._references[block] == 0:
                raise RuntimeError(f"block {block} was given back twice")
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free.append(block)

    def read(self, blocks: Sequence[int]) -> bytes:
        return b"".join(self._block(block) for block in blocks)

    def write(self, blocks: Sequence[int], data: bytes | bytearray | memoryview) -> None:
        size = self.geometry.block_bytes
        if len(data) != len(blocks) * size:
            raise ValueError(f"{len(data)} bytes for {len(blocks)} blocks of {size}")
        source = memoryview(data)
        for index, block in enumerate(blocks):
            self._block(block)[:] = source[index * size : (index + 1) * size]

    def value(self, blocks: Sequence[int], position: int) -> int:
        """KV value of the token at ``position``."""
        return int.from_bytes(self._record(blocks, position)[:8], "little")

    def store(self, blocks: Sequence[int], position: int, value: int) -> None:
        record = value.to_bytes(8, "little") * (self.geometry.record_bytes // 8)
        self._record(blocks, position)[:] = record

    def _block(self, block: int) -> memoryview:
        size = self.geometry.block_bytes
        return self._view[block * size : (block + 1) * size]

    def _record(self, blocks: Sequence[int], position: int) -> memoryview:
        block, offset = divmod(position, self.geometry.block_size_tokens)
        size = self.geometry.record_bytes
        return self._block(blocks[block])[offset * size : (offset + 1) * size]
