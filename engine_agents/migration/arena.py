"""Memory that agents on one host share: KV blocks are laid down once by the source and read in place.

The source owns an *arena* of equal slots. Its memory has no name in any folder
(``memfd_create``): whoever may read the source's ``/proc/PID/fd`` maps it, and it
is gone with the source's process, however that ends. A token in its first page
proves that the mapped memory is the one meant: in another container the same
process number belongs to somebody else, and blocks then travel by ZMQ.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import mmap
import os
import secrets
from collections import deque
from pathlib import Path

import msgspec
import numpy as np

ARENA_NAME = "llumdeck-arena"
HEADER_BYTES = mmap.PAGESIZE
TOKEN_BYTES = 32
LARGEST_ARENA_BYTES = 2**36


class ArenaAddress(msgspec.Struct, kw_only=True, frozen=True):
    """Where an arena lies, as sent to a destination."""

    pid: int
    fd: int
    slot_bytes: int
    slots: int
    token: bytes

    @property
    def size(self) -> int:
        return HEADER_BYTES + self.slots * self.slot_bytes


class UnreachableArenaError(Exception):
    """This process cannot map it; ``str(self)`` says why."""


class Arena:
    """The source's side. Slots are taken and given back on the agent's event loop."""

    def __init__(self, slot_bytes: int, slots: int) -> None:
        """Raises ``OSError`` where the system has no such memory (to give)."""
        rounded = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._fd = os.memfd_create(ARENA_NAME, os.MFD_CLOEXEC)
        self.address = ArenaAddress(
            pid=os.getpid(),
            fd=self._fd,
            slot_bytes=rounded,
            slots=slots,
            token=secrets.token_bytes(TOKEN_BYTES),
        )
        os.ftruncate(self._fd, self.address.size)
        self._map = mmap.mmap(self._fd, self.address.size)
        self._map[:TOKEN_BYTES] = self.address.token
        self._view = memoryview(self._map)
        self._free = list(range(slots))
        self._waiting: deque[asyncio.Future[int]] = deque()

    @property
    def base_address(self) -> int:
        """Of slot 0 in this process."""
        return int(np.frombuffer(self._view, dtype=np.uint8).ctypes.data) + HEADER_BYTES

    async def take(self) -> int:
        """A free slot; waits while the destinations are behind."""
        if self._free:
            return self._free.pop()
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.give_back([waiting.result()])
            raise

    def try_take(self) -> int | None:
        """A free slot if there is one now."""
        return self._free.pop() if self._free else None

    def give_back(self, slots: list[int]) -> None:
        """Those that wait for one get them, in turn."""
        self._free += slots
        while self._free and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(self._free.pop())

    def slot(self, number: int, length: int) -> memoryview:
        """The first ``length`` bytes of a slot, to be written."""
        return _part(self._view, self.address, number, length)

    def close(self) -> None:
        """Destinations that have it mapped keep what they see; nobody new can map it."""
        _unmap(self._view, self._map)
        os.close(self._fd)


class MappedArena:
    """The other side: another process's arena, read only unless it is to be written."""

    def __init__(self, address: ArenaAddress, writable: bool = False) -> None:
        """Raises :class:`UnreachableArenaError`."""
        if not (address.slots > 0 and address.slot_bytes > 0 and address.size <= LARGEST_ARENA_BYTES):
            raise UnreachableArenaError(f"an arena of {address.slots} × {address.slot_bytes} bytes is none")
        self.address = address
        self._map = _mapped(address, writable)
        self._view = memoryview(self._map)
        if not hmac.compare_digest(bytes(self._view[:TOKEN_BYTES]), address.token):
            self.close()
            raise UnreachableArenaError("that process is another one here")

    def slot(self, number: int, length: int) -> memoryview:
        """Raises ``ValueError`` for what is not inside."""
        return _part(self._view, self.address, number, length)

    def close(self) -> None:
        _unmap(self._view, self._map)


def _unmap(view: memoryview, mapped: mmap.mmap) -> None:
    """Now, or with the last part of it that somebody still holds."""
    view.release()
    with contextlib.suppress(BufferError):
        mapped.close()


def _mapped(address: ArenaAddress, writable: bool) -> mmap.mmap:
    path = Path(f"/proc/{address.pid}/fd/{address.fd}")
    try:
        if not str(path.readlink()).startswith(f"/memfd:{ARENA_NAME}"):
            raise UnreachableArenaError("that is no arena")
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != address.size:
                raise UnreachableArenaError("its size is another one")
            return mmap.mmap(fd, address.size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0))
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        raise UnreachableArenaError(f"it cannot be mapped: {error}") from error


def _part(view: memoryview, address: ArenaAddress, number: int, length: int) -> memoryview:
    if not 0 <= number < address.slots or not 0 <= length <= address.slot_bytes:
        there = f"{address.slots} slots of {address.slot_bytes} bytes"
        raise ValueError(f"{length} bytes of slot {number}: there are {there}")
    start = HEADER_BYTES + number * address.slot_bytes
    return view[start : start + length]
