"""The care of open streams: comments for silent ones, an end for who does not read, turns for everybody."""

from __future__ import annotations

import asyncio
from typing import Any

from controlplane.gateway.reply import CUT, FAIRNESS_REPLIES, KEEP_ALIVE, Reply, StreamCare

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class Client:
    """Takes what is sent, or nothing once ``stuck``."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.stuck = asyncio.Event()
        self.cut = False
        self.reply = Reply(self._send, "id", {"extensions": {CUT: self._cut}})

    async def _send(self, message: Any) -> None:
        if self.stuck.is_set():
            await asyncio.Event().wait()
        self.got.append(dict(message))

    def _cut(self) -> None:
        self.cut = True

    async def begin(self, *pieces: bytes) -> None:
        await self.reply.pass_on({**START, "headers": list(START["headers"])})  # type: ignore[arg-type]
        for piece in pieces:
            await self.reply.pass_on({"type": "http.response.body", "body": piece, "more_body": True})

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.005)


def looked_after(
    *clients: Client, keep_alive_s: float, stall_limit_s: float
) -> tuple[StreamCare, asyncio.Task[None]]:
    care = StreamCare(asyncio.get_running_loop().time, keep_alive_s, stall_limit_s)
    for client in clients:
        care.add(client.reply)
    return care, asyncio.create_task(care.run())


async def test_a_silent_stream_gets_its_start_and_comments_before_its_first_token() -> None:
    client = Client()
    await client.begin()
    assert client.got == [], "its status is held back until something is known"
    _, task = looked_after(client, keep_alive_s=0.02, stall_limit_s=60.0)
    await until(lambda: client.body.count(KEEP_ALIVE) >= 2)
    task.cancel()
    await client.reply.pass_on({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": False})
    assert [message["type"] for message in client.got].count("http.response.start") == 1
    assert client.body.endswith(b"data: 1\n\n")


async def test_who_does_not_read_is_cut_and_the_others_are_not() -> None:
    stuck, well = Client(), Client()
    for client in (stuck, well):
        await client.begin(b"data: 1\n\n")
    stuck.stuck.set()
    piece = {"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True}
    sending = asyncio.create_task(stuck.reply.pass_on(dict(piece)))
    care, task = looked_after(stuck, well, keep_alive_s=60.0, stall_limit_s=0.05)
    await until(lambda: stuck.cut)
    assert care.cut == 1 and not well.cut
    task.cancel()
    sending.cancel()


async def test_others_get_their_turn_while_thousands_are_looked_after() -> None:
    clients = [Client() for _ in range(10 * FAIRNESS_REPLIES)]
    for client in clients:
        await client.begin()
    turns, seen = 0, set()

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            seen.add(sum(bool(client.got) for client in clients))
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    _, task = looked_after(*clients, keep_alive_s=0.02, stall_limit_s=60.0)
    await until(lambda: all(client.got for client in clients))
    for each in (task, beside):
        each.cancel()
    assert len(seen) >= 5, "it ran between the first comment and the last"
