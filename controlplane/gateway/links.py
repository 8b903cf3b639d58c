"""The links to agents: one ZMQ DEALER each, watched by its monitor and by heartbeats.

A :class:`Link` lives as long as one connection; a connection that broke is never
used again, because messages may be missing from it. :class:`Links` keeps one link
per instance, makes new ones where agents are listed, and remembers aborts that
could not be delivered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from engine_agents.link_security import LinkKeys
from engine_agents.messages import (
    PROTOCOL_VERSION,
    Abort,
    Heartbeat,
    Hello,
    Ready,
    Step,
    ToAgent,
    ToGateway,
    encode,
)

logger = logging.getLogger(__name__)

HELLO_INTERVAL_S = 0.5
HELLO_LIMIT_S = 4.5
"""An agent gives a gateway up after 5 s without a Hello: who stood still that long must assume it."""
SILENCE_LIMIT_S = 5.0
"""An agent that says nothing for so long is gone (a busy one still sends a heartbeat a second)."""
RECONNECT_FIRST_S = 0.2
RECONNECT_LIMIT_S = 2.0
MAX_QUEUED_MESSAGES = 20_000
MAX_KEPT_ABORTS = 10_000
FAIRNESS_MESSAGES = 64
"""After so many messages in one go the other tasks get a turn."""


@dataclass(frozen=True, slots=True)
class Self:
    """Who this gateway is, as agents see it, and what they must agree with."""

    gateway_id: str
    incarnation: str
    engine_version: str
    served_model: str
    max_model_len: int
    keys: LinkKeys | None = None
    """What it proves to agents; ``None``: plain links."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an agent listens; another incarnation is another agent."""

    instance_id: str
    endpoint: str
    incarnation: str


class LinkOwner(Protocol):
    """Told, on the event loop, what happens on links."""

    def link_ready(self, instance_id: str, ready: Ready) -> None: ...

    def link_lost(self, instance_id: str, reason: str) -> None:
        """A link that was ready is gone; nothing more comes from it."""

    def link_message(self, instance_id: str, message: ToGateway) -> None: ...


def disagreement(me: Self, ready: Ready) -> str:
    """Why requests must not be sent there; empty when all agrees."""
    if ready.protocol_version != PROTOCOL_VERSION:
        return f"it speaks protocol {ready.protocol_version}, this gateway {PROTOCOL_VERSION}"
    if ready.engine == "vllm" and ready.engine_version != me.engine_version:
        return f"its vLLM is {ready.engine_version}, this gateway's {me.engine_version}"
    if ready.served_model != me.served_model:
        return f"it serves {ready.served_model!r}, this gateway {me.served_model!r}"
    if ready.max_model_len < me.max_model_len:
        return (
            f"its context is {ready.max_model_len} tokens, this gateway admits {me.max_model_len};"
            " give the gateway the same max_model_len"
        )
    return ""


class Link:
    """One connection to one agent."""

    def __init__(
        self,
        target: Target,
        me: Self,
        context: zmq.asyncio.Context,
        clock: Callable[[], float],
        on_ready: Callable[[Link, Ready], None],
        on_message: Callable[[str, ToGateway], None],
        on_lost: Callable[[Link, str], None],
    ) -> None:
        self.target = target
        self.ready: Ready | None = None
        self.refused = ""
        """Why the agent is not used although it answers."""
        self._me, self._clock = me, clock
        self._on_ready, self._on_message, self._on_lost = on_ready, on_message, on_lost
        self._decoder = msgspec.msgpack.Decoder(ToGateway)
        self._heard_s = clock()
        self._steps = 0
        self._steps_base: int | None = None
        self._socket = _dealer(context, me)
        events = zmq.Event.DISCONNECTED | zmq.Event.CLOSED
        self._monitor: zmq.asyncio.Socket = self._socket.get_monitor_socket(events)
        self._socket.connect(target.endpoint)
        self._lost = False
        self._tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._watch()),
        ]

    def send(self, message: ToAgent) -> bool:
        """Hand a message to the connection now; ``False`` when it is full or closed."""
        if self._lost:
            return False
        # With DONTWAIT the future is done when it is returned.
        sent = cast("asyncio.Future[None]", self._socket.send(encode(message), flags=zmq.DONTWAIT))
        return sent.exception() is None

    def lose(self, reason: str) -> None:
        """Close the connection and say so; a second call does nothing."""
        if not self._lost:
            self._close()
            self._on_lost(self, reason)

    def close(self) -> None:
        """Close without telling the owner."""
        if not self._lost:
            self._close()

    def _close(self) -> None:
        self._lost = True
        for task in self._tasks:
            task.cancel()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        # Aborts sent just before still go out.
        self._socket.close(linger=200)

    async def _read(self) -> None:
        count = 0
        while not self._lost:
            frames = await self._socket.recv_multipart(copy=True)
            self._heard_s = self._clock()
            self._receive(frames[0])
            count += 1
            if count % FAIRNESS_MESSAGES == 0:
                await asyncio.sleep(0)

    def _receive(self, frame: bytes) -> None:
        try:
            message = self._decoder.decode(frame)
        except msgspec.MsgspecError as error:
            logger.error("a message of %s could not be read: %s", self.target.instance_id, error)
            self.lose("it sent what cannot be read")
            return
        if isinstance(message, Ready):
            self._greet(message)
            return
        if isinstance(message, Heartbeat):
            self._count_steps(message.steps_sent)
        if self.ready is not None and not self._lost:
            self._steps += isinstance(message, Step)
            try:
                self._on_message(self.target.instance_id, message)
            except Exception:
                # One bad message must not end the link: its requests would be recovered into the same.
                logger.exception("a message of %s could not be handled", self.target.instance_id)

    def _count_steps(self, sent: int) -> None:
        """An agent that counts otherwise has lost steps on the way, or had given this gateway up."""
        if sent < 0 or self.ready is None:
            return
        if self._steps_base is None:
            self._steps_base = sent - self._steps
        elif sent - self._steps_base != self._steps:
            self.lose(f"it sent {sent - self._steps_base} steps, {self._steps} arrived")

    def _greet(self, ready: Ready) -> None:
        if self.ready is not None:
            if ready.incarnation != self.ready.incarnation:
                self.lose("it started anew")
            return
        reason = disagreement(self._me, ready)
        if reason != self.refused:
            logger.error("instance %s is not used: %s", self.target.instance_id, reason)
        self.refused = reason
        if not reason:
            self.ready = ready
            self._on_ready(self, ready)

    async def _beat(self) -> None:
        # Versions are compared here, at Ready: which one must agree depends on the engine.
        hello = Hello(gateway_id=self._me.gateway_id, incarnation=self._me.incarnation)
        sent_s = self._clock()
        while not self._lost:
            if self._clock() - sent_s > HELLO_LIMIT_S:
                self.lose("this gateway stood still, so its requests there are given up")
                return
            sent_s = self._clock()
            self.send(hello)
            await asyncio.sleep(HELLO_INTERVAL_S)
            # While this process stood still it heard nothing: that is no silence of the agent's.
            self._heard_s += max(0.0, self._clock() - sent_s - 2 * HELLO_INTERVAL_S)
            silent_s = self._clock() - self._heard_s
            if silent_s > SILENCE_LIMIT_S:
                self.lose(f"silent for {silent_s:.1f} s")

    async def _watch(self) -> None:
        """ZMQ says at once when the peer's process is gone; heartbeats would take seconds."""
        while not self._lost:
            event = parse_monitor_message(await self._monitor.recv_multipart())
            if event["event"] == zmq.Event.DISCONNECTED:
                self.lose("the connection broke")


class Links:
    """One link per listed instance. All calls on the event loop."""

    def __init__(self, me: Self, owner: LinkOwner, clock: Callable[[], float]) -> None:
        self._me, self._owner, self._clock = me, owner, clock
        self._context = zmq.asyncio.Context()
        self._links: dict[str, Link] = {}
        self._targets: dict[str, Target] = {}
        self._retry_at_s: dict[str, float] = {}
        self._delay_s: dict[str, float] = {}
        self._aborts: dict[str, tuple[str, list[str]]] = {}
        """Undelivered, by instance: the agent's incarnation and engine ids."""
        self._usable: frozenset[str] | None = None
        """As last asked; ``None``: a link came or went since."""

    def follow(self, targets: Iterable[Target]) -> None:
        """Be linked to exactly these; a link that works is kept until it breaks."""
        known, self._targets = self._targets, {target.instance_id: target for target in targets}
        for instance_id, link in list(self._links.items()):
            target = self._targets.get(instance_id)
            if target is None and link.ready is None:
                self._links.pop(instance_id).close()
                self._usable = None
            elif target is not None and target != link.target:
                link.lose("its address or incarnation changed")
        for instance_id, target in self._targets.items():
            if known.get(instance_id) != target:  # pauses are for who failed where it was before
                self._retry_at_s.pop(instance_id, None)
        self._forget_the_gone()
        self.connect_due()

    def _forget_the_gone(self) -> None:
        """An agent that is neither listed nor linked has given this gateway up, and its requests with it."""
        known: tuple[dict[str, Any], ...] = (self._retry_at_s, self._delay_s, self._aborts)
        for kept in known:
            for instance_id in kept.keys() - self._targets.keys() - self._links.keys():
                del kept[instance_id]

    def connect_due(self) -> None:
        """Connect where there is no link and the pause after the last failure is over."""
        now_s = self._clock()
        for instance_id, target in self._targets.items():
            if instance_id not in self._links and now_s >= self._retry_at_s.get(instance_id, 0.0):
                self._links[instance_id] = Link(
                    target,
                    self._me,
                    self._context,
                    self._clock,
                    self._ready,
                    self._owner.link_message,
                    self._lost,
                )

    def usable(self) -> frozenset[str]:
        """Instances that requests can be sent to now."""
        if self._usable is None:
            self._usable = frozenset(name for name, link in self._links.items() if link.ready is not None)
        return self._usable

    def refusals(self) -> dict[str, str]:
        """Instances that answer but disagree, and why."""
        return {name: link.refused for name, link in self._links.items() if link.refused}

    def send(self, instance_id: str, message: ToAgent) -> bool:
        link = self._links.get(instance_id)
        return link is not None and link.ready is not None and link.send(message)

    def abort(self, instance_id: str, engine_ids: list[str]) -> None:
        """Abort now, or as soon as the same agent is back."""
        if self.send(instance_id, Abort(engine_ids=engine_ids)):
            return
        target = self._targets.get(instance_id)
        incarnation = target.incarnation if target else ""
        kept_for, kept = self._aborts.get(instance_id, (incarnation, []))
        if kept_for == incarnation and len(kept) < MAX_KEPT_ABORTS:
            self._aborts[instance_id] = (incarnation, kept + engine_ids)

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._usable = None
        self._context.destroy(linger=200)

    def _ready(self, link: Link, ready: Ready) -> None:
        instance_id = link.target.instance_id
        self._usable = None
        self._delay_s.pop(instance_id, None)
        logger.info("instance %s is linked at %s", instance_id, link.target.endpoint)
        _, kept = self._aborts.pop(instance_id, ("", []))
        if kept:
            link.send(Abort(engine_ids=kept))
        self._owner.link_ready(instance_id, ready)

    def _lost(self, link: Link, reason: str) -> None:
        instance_id = link.target.instance_id
        self._usable = None
        if self._links.get(instance_id) is link:
            del self._links[instance_id]
        delay_s = self._delay_s.get(instance_id, RECONNECT_FIRST_S)
        self._retry_at_s[instance_id] = self._clock() + delay_s
        self._delay_s[instance_id] = min(2 * delay_s, RECONNECT_LIMIT_S)
        if link.ready is not None:
            logger.warning("instance %s is lost: %s", instance_id, reason)
            self._owner.link_lost(instance_id, reason)


def _dealer(context: zmq.asyncio.Context, me: Self) -> zmq.asyncio.Socket:
    socket: zmq.asyncio.Socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, me.gateway_id.encode())
    if me.keys is not None:
        me.keys.speak(socket)
    socket.setsockopt(zmq.SNDHWM, MAX_QUEUED_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, MAX_QUEUED_MESSAGES)
    socket.setsockopt(zmq.LINGER, 0)
    return socket
