"""A gateway on the wire in a process of its own, to be killed; arguments: endpoint, requests."""

from __future__ import annotations

import asyncio
import sys

from tests.engine_agents.harness import BareGateway

PROMPT = [5 + (11 * i) % 200 for i in range(60)]


async def main(endpoint: str, count: int) -> None:
    gateway = BareGateway(gateway_id="to-be-killed")
    await gateway.connect(endpoint)
    instance_id = next(iter(gateway.ready))
    for number in range(count):
        await gateway.add(instance_id, f"orphan{number}", PROMPT, max_tokens=1900)
    for number in range(count):
        await gateway.until_tokens(f"orphan{number}", 3)
    print("streaming", flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
