"""Who may talk to agents, and that nobody else listens: CURVE on every ZMQ link.

One secret of the fleet gives two key pairs: the agents' and the gateways'. Every
agent proves to be an agent, every gateway to be a gateway; agents let in exactly
these two and refuse and count all others. Links are encrypted with keys of their
own, made anew for each connection. Without a secret links are plain, which an agent
accepts on the loopback interface only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

logger = logging.getLogger(__name__)

LEAST_SECRET_LENGTH = 16
AGENT, GATEWAY = "agent", "gateway"
_REFUSALS = {
    zmq.Event.HANDSHAKE_FAILED_AUTH: "it is not known here",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "it does not speak CURVE",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "its handshake failed",
}


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """One process's keys, in Z85."""

    public_key: bytes
    secret_key: bytes
    agents_key: bytes
    """The public key that every agent of the fleet must prove."""
    known: frozenset[bytes]
    """Public keys that an agent lets in."""

    def __repr__(self) -> str:
        return f"LinkKeys(public_key={self.public_key!r})"

    def listen(self, socket: zmq.Socket[Any]) -> None:
        """Before ``bind``: let in only who is known."""
        socket.curve_server = True
        socket.curve_secretkey, socket.curve_publickey = self.secret_key, self.public_key

    def speak(self, socket: zmq.Socket[Any]) -> None:
        """Before ``connect``: say who we are and insist on an agent of this fleet."""
        socket.curve_serverkey = self.agents_key
        socket.curve_secretkey, socket.curve_publickey = self.secret_key, self.public_key


def agent_keys(secret: str) -> LinkKeys | None:
    """``None`` without a secret: plain links. Raises ``ValueError`` for one that is too short."""
    return _keys(secret, AGENT)


def gateway_keys(secret: str) -> LinkKeys | None:
    """As :func:`agent_keys`."""
    return _keys(secret, GATEWAY)


def check_listening(host: str, keys: LinkKeys | None) -> None:
    """Raises ``ValueError`` when anybody on the network could speak to the agent."""
    if keys is None and not _is_loopback(host):
        raise ValueError(
            f"host: {host!r} can be reached from other machines, and links are not secured: "
            "give the fleet a link_secret (LLUMDECK_LINK_SECRET)"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(secret: str, role: str) -> LinkKeys | None:
    if not secret:
        return None
    if len(secret) < LEAST_SECRET_LENGTH:
        raise ValueError(
            f"link_secret: {len(secret)} characters are too few: {LEAST_SECRET_LENGTH} are the least"
        )
    pairs = {name: _pair(secret, name) for name in (AGENT, GATEWAY)}
    public, private = pairs[role]
    return LinkKeys(public, private, pairs[AGENT][0], frozenset(pair[0] for pair in pairs.values()))


def _pair(secret: str, role: str) -> tuple[bytes, bytes]:
    digest = hashlib.blake2b(secret.encode(), digest_size=32, person=f"llumdeck-{role}"[:16].encode())
    private: bytes = z85.encode(digest.digest())
    return zmq.curve_public(private), private


class Doorkeeper:
    """Answers ZMQ's question whether a key is known; one per context, before its sockets listen."""

    def __init__(self, context: zmq.asyncio.Context, keys: LinkKeys | None) -> None:
        self._keys = keys
        self._authenticator = AsyncioAuthenticator(context) if keys is not None else None

    def start(self) -> None:
        if self._authenticator is not None:
            self._authenticator.start()
            self._authenticator.configure_curve_callback("*", self)

    def callback(self, domain: str, key: bytes) -> bool:
        """ZMQ's authenticator calls it for each connection."""
        return self._keys is not None and key in self._keys.known

    def stop(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()


async def watch_listener(
    socket: zmq.asyncio.Socket, *, refused: Callable[[str], None], disconnected: Callable[[], None]
) -> None:
    """Until cancelled: hear of peers that were refused, at which door, and that some peer is gone."""
    events = zmq.Event.DISCONNECTED | zmq.Event.HANDSHAKE_FAILED_AUTH
    events |= zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    monitor: zmq.asyncio.Socket = socket.get_monitor_socket(events)
    try:
        while True:
            event = zmq.Event(parse_monitor_message(await monitor.recv_multipart())["event"])
            if event in _REFUSALS:
                refused(_REFUSALS[event])
            else:
                disconnected()
    except asyncio.CancelledError:
        # Its context may have gone first, where a whole process ends.
        with contextlib.suppress(zmq.ZMQError):
            socket.disable_monitor()
        monitor.close(linger=0)
        raise
    except zmq.ZMQError as error:
        # The socket has gone with its context: there is nobody left to hear of.
        if not (socket.closed or monitor.closed or error.errno in (zmq.ENOTSOCK, zmq.ETERM)):
            raise
