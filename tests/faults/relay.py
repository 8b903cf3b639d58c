"""A TCP relay between two parties, which can be made a bad network: cut, silent, slow, damaging."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

PIECE_BYTES = 16 * 1024
BULK_BYTES = 8 * 1024
"""Only inside pieces of this size is damage done: frames' headers and small messages stay whole."""


class Way(StrEnum):
    OUT = "out"
    """From whoever connected to whom it wanted."""
    BACK = "back"


@dataclass
class Weather:
    """What happens to the bytes; set it at any time."""

    silent: frozenset[Way] = frozenset()
    """Nothing of this direction arrives, and nobody is told."""
    bytes_per_s: float = 0.0
    """0: as fast as it goes."""
    flips: int = 0
    """So many bulk pieces, from now on, get one bit flipped."""
    truncations: int = 0
    """So many bulk pieces end in the middle, and with them the connection."""
    flipped: int = 0
    truncated: int = 0


class Relay:
    """Listens on a port of its own for one target, ``tcp://host:port``."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self.weather = Weather()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._refusing = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        host, port = self._listener.getsockname()
        return f"tcp://{host}:{port}"

    def cut(self, *, refuse: bool = False) -> None:
        """Break every connection; with ``refuse`` new ones break at once, until :meth:`heal`."""
        self._refusing = refuse
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                # Shutting wakes the threads that wait on it; closing alone would not.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def heal(self) -> None:
        """Good weather. What was swallowed stays lost, so the connections that swallowed are broken."""
        was_silent = bool(self.weather.silent)
        self.weather = Weather(flipped=self.weather.flipped, truncated=self.weather.truncated)
        self._refusing = False
        if was_silent:
            self.cut()

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.cut(refuse=True)

    def _accept(self) -> None:
        while not self._closed:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                outer = socket.create_connection(self._target, timeout=5)
                outer.settimeout(None)
            except OSError:
                inner.close()
                continue
            for end in (inner, outer):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((inner, outer))
            for way, source, sink in ((Way.OUT, inner, outer), (Way.BACK, outer, inner)):
                threading.Thread(target=self._carry, args=(way, source, sink), daemon=True).start()

    def _carry(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := self._next_piece(way, source):
                piece, goes_on = self._damaged(piece)
                sink.sendall(piece)
                if not goes_on:
                    break
        except (OSError, ValueError):
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _next_piece(self, way: Way, source: socket.socket) -> bytes:
        while True:
            if way in self.weather.silent and not select.select([source], [], [], 0.05)[0]:
                continue
            piece = source.recv(PIECE_BYTES)
            if not piece or way not in self.weather.silent:
                break
        if piece and self.weather.bytes_per_s:
            time.sleep(len(piece) / self.weather.bytes_per_s)
        return piece

    def _damaged(self, piece: bytes) -> tuple[bytes, bool]:
        weather = self.weather
        if len(piece) < BULK_BYTES:
            return piece, True
        middle = len(piece) // 2
        with self._lock:
            if weather.flips:
                weather.flips -= 1
                weather.flipped += 1
                return piece[:middle] + bytes([piece[middle] ^ 0x40]) + piece[middle + 1 :], True
            if weather.truncations:
                weather.truncations -= 1
                weather.truncated += 1
                return piece[:middle], False
        return piece, True
