"""Cases 27 and 30: whoever wanted the tokens is gone."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.faults.agents import ROOT, wait_until
from tests.faults.load import KEY, Ask
from tests.faults.matrix import on_real_engines
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

GIVEN_UP_WITHIN_S = 2.0
BUSY_MACHINE_S = 8.0
"""What two cores under load add to it."""


async def leave_early(url: str, ask: Ask, pieces: int) -> None:
    """Read a few pieces of a stream, then close the connection."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=60) as client,
        client.stream("POST", f"{url}/v1/completions", json=ask.body) as reply,
    ):
        async for _ in reply.aiter_lines():
            pieces -= 1
            if pieces <= 0:
                return


@on_real_engines
def test_case_30_clients_that_leave_in_mid_stream(stage: Stage, matrix, seed: int, leavers: int) -> None:
    with stage.trial(matrix, 30, f"{leavers} clients leave in mid-stream", seed) as scene:
        site = scene.site
        asks = stage.asks(scene.rng, leavers)
        reads = [scene.rng.randrange(1, 30) for _ in asks]

        async def crowd() -> None:
            gate = asyncio.Semaphore(12)

            async def one(ask: Ask, pieces: int) -> None:
                async with gate:
                    await leave_early(site.url, ask, pieces)

            await asyncio.gather(*(one(*each) for each in zip(asks, reads, strict=True)))

        scene.struck()
        asyncio.run(crowd())
        began_s = time.monotonic()

        def only_the_others() -> bool:
            entries = site.entries()
            staying = [answer.request_id for answer in scene.answers if answer.request_id]
            return all(any(one in entry.request_id for one in staying) for entry in entries)

        wait_until(only_the_others, "the requests of those who left to end")
        scene.trial.note(left=leavers, aborted_ms=round(1e3 * (time.monotonic() - began_s)))


def test_case_27_a_gateway_that_is_killed(stage: Stage, matrix, seed: int) -> None:
    """A second gateway, a process of its own with streams on one agent, gets SIGKILL."""
    with stage.trial(matrix, 27, "gateway killed with open streams", seed) as scene:
        agent = scene.agent("source")
        scene.wait_tokens(20)
        endpoint = agent.ask("describe")["data_endpoint"]
        words = [sys.executable, "-m", "tests.faults.small_gateway", endpoint, "6"]
        gateway = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert gateway.stdout is not None
        assert gateway.stdout.readline().strip() == "streaming"
        assert orphans(agent) == 6
        gateway.send_signal(signal.SIGKILL)
        gateway.wait(timeout=30)
        waited_s = wait_until(lambda: orphans(agent) == 0, "its requests to be aborted", limit_s=30)
        scene.trial.note(aborted_ms=round(1e3 * waited_s))
        scene.trial.requests += 6
        assert waited_s < GIVEN_UP_WITHIN_S + BUSY_MACHINE_S


def orphans(agent) -> int:
    return sum(row["request_id"].startswith("orphan") for row in agent.ask("requests"))
