"""The relay itself: what it is told to do to the bytes, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.relay import Relay, Way

BULK = bytes(range(256)) * 64


@pytest.fixture
def relay() -> Iterator[Relay]:
    """In front of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def echo(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    made = Relay(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    yield made
    made.close()
    server.close()


def connect(relay: Relay) -> socket.socket:
    host, _, port = relay.endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(65536)):
        data += piece
    return data


def test_in_good_weather_everything_arrives(relay: Relay) -> None:
    with connect(relay) as client:
        client.sendall(BULK)
        assert read(client, len(BULK)) == BULK


def test_one_bit_of_a_bulk_piece_is_flipped_and_small_ones_are_left_alone(relay: Relay) -> None:
    with connect(relay) as client:
        relay.weather.flips = 1
        client.sendall(b"small")
        assert read(client, 5) == b"small"
        client.sendall(BULK)
        got = read(client, len(BULK))
        assert sum((one ^ other).bit_count() for one, other in zip(got, BULK, strict=True)) == 1
        assert relay.weather.flipped == 1


def test_a_truncated_piece_ends_the_connection(relay: Relay) -> None:
    with connect(relay) as client:
        relay.weather.truncations = 1
        client.sendall(BULK)
        assert len(read(client, len(BULK))) < len(BULK)


def test_a_cut_is_noticed_and_new_connections_are_refused_until_it_heals(relay: Relay) -> None:
    with connect(relay) as client:
        client.sendall(b"x")
        read(client, 1)
        relay.cut(refuse=True)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    with connect(relay) as client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.sendall(b"x")
        assert client.recv(1) == b""
    relay.heal()
    with connect(relay) as client:
        client.sendall(b"again")
        assert read(client, 5) == b"again"


@pytest.mark.parametrize("way", list(Way))
def test_silence_is_of_one_direction_and_not_noticed(relay: Relay, way: Way) -> None:
    with connect(relay) as client:
        relay.weather.silent = frozenset({way})
        client.sendall(b"x")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_slow_relay_takes_its_time(relay: Relay) -> None:
    with connect(relay) as client:
        relay.weather.bytes_per_s = 64 * 1024
        began_s = time.monotonic()
        client.sendall(BULK)
        assert read(client, len(BULK)) == BULK
        assert time.monotonic() - began_s >= 2 * len(BULK) / (64 * 1024) * 0.9
