"""``python -m controlplane.gateway.public``: one port in front of all pools and their gateways.

It finds the gateways by their reports in Redis (``--backend MODEL=URL`` names some that
report elsewhere), starts before any of them is there, and loads neither vLLM nor models.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import django
import uvloop
from django.utils.module_loading import import_string

from controlplane.gateway.__main__ import DEFAULT_GRACE_S, DEFAULT_PORT, DEFAULT_PROFILE
from controlplane.gateway.public.backends import Backends
from controlplane.gateway.server import Server, listen, server_config

logger = logging.getLogger("controlplane.gateway.public")

POLL_S = 1.0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m controlplane.gateway.public", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--backend", action="append", default=[], type=backend, metavar="MODEL=URL")
    parser.add_argument("--grace-s", type=int, default=DEFAULT_GRACE_S, help="for open streams when it stops")
    return parser.parse_args(arguments)


def backend(text: str) -> tuple[str, str]:
    model, separator, url = text.partition("=")
    if not separator or not model or not url.startswith("http://"):
        raise argparse.ArgumentTypeError("give MODEL=http://HOST:PORT")
    return model, url


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    import_string(DEFAULT_PROFILE)()
    django.setup()
    try:
        listener = listen(args.host, args.port)
    except OSError as error:
        print(f"router: {error}", file=sys.stderr)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(args, listener))
    return 0


async def _serve(args: argparse.Namespace, listener: Any) -> None:
    from controlplane.gateway.public.app import PublicDoor

    backends = Backends(time.monotonic, args.backend)
    following = asyncio.create_task(follow(backends))
    config = server_config(
        PublicDoor(backends, time.monotonic),
        grace_s=args.grace_s,
        date_header=False,  # the gateway's own is passed on
    )
    server = Server(config)
    server.stop_on_signals(asyncio.get_running_loop())
    logger.info("one port for all pools: %s:%d", args.host, listener.getsockname()[1])
    try:
        await server.serve(sockets=[listener])
    finally:
        following.cancel()


async def follow(backends: Backends) -> None:
    """Until cancelled: the gateways' reports, once a second. Without Redis the last ones hold."""
    from controlplane import redis_client
    from controlplane.fleet.live_status import GATEWAYS_HASH

    alive = True
    while True:
        try:
            async with redis_client.connect_async() as client:
                while True:
                    backends.absorb(await cast(Any, client.hgetall(redis_client.key(GATEWAYS_HASH))))
                    alive = True
                    await asyncio.sleep(POLL_S)
        except (redis_client.RedisError, OSError, TimeoutError) as error:
            if alive:
                logger.warning("Redis is away, the last gateways are used: %s", type(error).__name__)
            alive = False
            await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main())
