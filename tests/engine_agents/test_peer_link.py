"""Links between agents: who is reached at two addresses, and who comes back unheard of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import zmq
import zmq.asyncio

from engine_agents.messages import Doubt, DoubtAnswer, encode
from engine_agents.peer_link import PeerLink
from tests.faults.relay import Relay

PATIENCE_S = 30.0


class Desk:
    """Answers every doubt, and remembers whose it was."""

    def __init__(self) -> None:
        self.link: PeerLink
        self.heard: list[str] = []

    async def from_source(self, reply_to: bytes, message, frame) -> None:
        self.heard.append(message.migration_id)
        self.link.reply(reply_to, DoubtAnswer(migration_id=message.migration_id, verdict="unknown"))


@asynccontextmanager
async def peer(name: str) -> AsyncIterator[tuple[PeerLink, Desk, str]]:
    context, desk = zmq.asyncio.Context(), Desk()
    link = desk.link = PeerLink(context, desk, name=name)
    endpoint = link.bind("127.0.0.1", 0)
    link.start()
    try:
        yield link, desk, endpoint
    finally:
        await link.close()
        context.term()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - of another thread of events
            await asyncio.sleep(0.01)


async def test_a_peer_that_is_reached_at_two_addresses_answers_each_where_it_was_asked():
    async with peer("b") as (_, desk, endpoint), peer("a") as (link, _, _):
        relay = Relay(endpoint)
        answers: list[str] = []
        try:
            for name, address in (
                ("m-direct", endpoint),
                ("m-relayed", relay.endpoint),
                ("m-again", endpoint),
            ):
                connection = link.connection(address)
                connection.register(name, lambda message, name=name: answers.append(name))
                assert await connection.send(Doubt(migration_id=name), within_s=PATIENCE_S)
                await until(lambda name=name: name in answers)
        finally:
            relay.close()
        assert desk.heard == answers == ["m-direct", "m-relayed", "m-again"]


@pytest.mark.parametrize("times", [1, 3])
async def test_who_comes_back_before_its_old_connection_was_missed_is_heard(times):
    async with peer("b") as (_, desk, endpoint):
        context = zmq.asyncio.Context()
        dealers = []
        for number in range(1 + times):
            # The ones before stay open: nobody told the listener that they are gone.
            dealer = context.socket(zmq.DEALER)
            dealers.append(dealer)
            dealer.setsockopt(zmq.IDENTITY, b"a/1/control")
            dealer.connect(endpoint)
            await dealer.send(encode(Doubt(migration_id=f"m-{number}")))
            await until(lambda number=number: f"m-{number}" in desk.heard)
            async with asyncio.timeout(PATIENCE_S):
                assert await dealer.recv()
        context.destroy(linger=0)
