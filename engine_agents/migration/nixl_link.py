"""NIXL, where it is installed: the destination reads the source's arena over the network.

NVIDIA's transfer library (RDMA by UCX, and plain TCP where there is nothing better).
It is an extra: ``pip install nixl`` on GPU hosts. Its own traffic is neither
authenticated nor encrypted by us: use it in a network that only the fleet is in.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from engine_agents.migration.arena import Arena
from engine_agents.migration.transfer import DamagedChunkError

READ_LIMIT_S = 5.0
POLL_S = 50e-6


class NixlUnavailableError(Exception):
    """Why it cannot be used; ``str(self)`` is for people."""


class NixlOffer(msgspec.Struct, kw_only=True, frozen=True):
    """What a destination needs to read a source's arena."""

    metadata: bytes
    """NIXL's own: how to reach the source's agent and its registered memory."""
    address: int
    """Of slot 0 in the source's process."""
    slot_bytes: int
    slots: int


class NixlLink:
    """One NIXL agent per engine agent."""

    def __init__(self, name: str) -> None:
        """Raises :class:`NixlUnavailableError` where it is not installed or does not start."""
        try:
            api: Any = importlib.import_module("nixl._api")
            self._agent: Any = api.nixl_agent(name, api.nixl_agent_config(backends=["UCX"]))
        except ImportError as error:
            raise NixlUnavailableError(f"it is not installed here ({error}): pip install nixl") from error
        except Exception as error:
            raise NixlUnavailableError(f"it does not start here: {error}") from error
        self._lock = threading.Lock()
        self._registered: list[Any] = []
        self._offer: NixlOffer | None = None

    def offer(self, arena: Arena) -> NixlOffer:
        """Registers the arena at the first call."""
        if self._offer is None:
            with self._lock:
                address = arena.base_address
                size = arena.address.slots * arena.address.slot_bytes
                self._registered.append(self._agent.register_memory([(address, size, 0, "")], "DRAM"))
                self._offer = NixlOffer(
                    metadata=self._agent.get_agent_metadata(),
                    address=address,
                    slot_bytes=arena.address.slot_bytes,
                    slots=arena.address.slots,
                )
        return self._offer

    def reader(self, offer: NixlOffer) -> Callable[[str], memoryview]:
        """Opens what comes from that source; what it returns is valid until its next call."""
        with self._lock:
            try:
                remote = self._agent.add_remote_agent(offer.metadata)
            except Exception as error:
                raise NixlUnavailableError(f"the source cannot be reached: {error}") from error
            buffer = np.empty(offer.slot_bytes, dtype=np.uint8)
            self._registered.append(
                self._agent.register_memory([(buffer.ctypes.data, buffer.nbytes, 0, "")], "DRAM")
            )

        def read(place: str) -> memoryview:
            slot, length = _within(offer, place)
            remote_at = offer.address + slot * offer.slot_bytes
            with self._lock:
                self._pull(remote, (buffer.ctypes.data, length, 0), (remote_at, length, 0))
            return buffer.data[:length]

        return read

    def _pull(self, remote: Any, here: tuple[int, int, int], there: tuple[int, int, int]) -> None:
        agent = self._agent
        local = agent.get_xfer_descs([here], "DRAM")
        distant = agent.get_xfer_descs([there], "DRAM")
        handle = agent.initialize_xfer("READ", local, distant, remote, b"")
        deadline = time.monotonic() + READ_LIMIT_S
        try:
            state = agent.transfer(handle)
            while state not in ("DONE", "ERR"):
                if time.monotonic() > deadline:
                    raise DamagedChunkError(f"NIXL did not read {here[1]} bytes within {READ_LIMIT_S:g} s")
                time.sleep(POLL_S)
                state = agent.check_xfer_state(handle)
        finally:
            agent.release_xfer_handle(handle)
        if state == "ERR":
            raise DamagedChunkError(f"NIXL failed to read {here[1]} bytes")

    def close(self) -> None:
        """Memory that was registered is free to go."""
        with self._lock:
            for one in self._registered:
                self._agent.deregister_memory(one)
            self._registered.clear()


def _within(offer: NixlOffer, place: str) -> tuple[int, int]:
    try:
        slot, length = map(int, place.split(":"))
    except ValueError as error:
        raise DamagedChunkError(f"nothing lies at {place!r}") from error
    if not 0 <= slot < offer.slots or not 0 <= length <= offer.slot_bytes:
        raise DamagedChunkError(f"{place!r} is outside of the source's arena")
    return slot, length
