"""``python -m controlplane.gateway --pool NAME``: one gateway process.

It starts without any engine being there and serves as soon as one is. SIGTERM and
SIGINT stop it: no new connections, open streams get a grace, then it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import django
import uvloop
from django.utils.module_loading import import_string

from controlplane import garbage
from controlplane.gateway.server import Server, listen, server_config

if TYPE_CHECKING:
    from controlplane.gateway.process import GatewayProcess, Options

logger = logging.getLogger("controlplane.gateway")

DEFAULT_PORT = 8801
DEFAULT_GRACE_S = 300
"""SIGTERM ends nobody's stream: so long they may take to end by themselves. A second signal ends them."""
DEFAULT_PROFILE = "console.settings.env.use_default_profile"
"""Settings are the project's, above this package: found by name, as Django itself finds them."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m controlplane.gateway", description=__doc__)
    parser.add_argument("--pool", required=True, help="name of the pool whose instances serve")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 = any free port")
    parser.add_argument("--model", default="", help="path or hub name; default: the pool's")
    parser.add_argument("--served-model-name", default="", help="what clients ask for; default: the pool's")
    parser.add_argument("--max-model-len", type=int, default=0, help="default: the pool's, else the model's")
    parser.add_argument("--gateway-id", default="", help="unique name; default: made up")
    parser.add_argument("--grace-s", type=int, default=DEFAULT_GRACE_S, help="for open streams when it stops")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    import_string(DEFAULT_PROFILE)()
    django.setup()
    from controlplane.gateway.composition import StartError, options_from

    try:
        listener = listen(args.host, args.port)
        options = options_from(args, listener.getsockname()[1])
    except (StartError, OSError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options, listener, args.grace_s))


async def _serve(options: Options, listener: socket.socket, grace_s: int) -> int:
    from controlplane.gateway.composition import real_ports
    from controlplane.gateway.process import GatewayProcess
    from engine_agents.vllm_engine.frontend_port import FrontHalfError

    process = GatewayProcess(options, real_ports(options.pool))
    server = Server(server_config(process.door, grace_s=grace_s))
    server.stop_on_signals(asyncio.get_running_loop())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        if not await _started(process, serving):
            return 0
        garbage.settle(young_objects=garbage.YOUNG_OBJECTS)
        logger.info("gateway %s serves %s at %s", options.gateway_id, options.model.served_model, options.url)
        await serving
    except FrontHalfError as error:
        print(f"gateway: {error}", file=sys.stderr)
        server.should_exit = True
        await serving
        return 1
    finally:
        await process.stop()
    return 0


async def _started(process: GatewayProcess, serving: asyncio.Task[None]) -> bool:
    """Start; ``False`` when a signal came first. Raises what starting raises."""
    starting = asyncio.create_task(process.start())
    await asyncio.wait({starting, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # vLLM is being imported in a thread that nothing can end; there is nothing yet to clean up.
        logger.info("stopped while starting")
        logging.shutdown()
        os._exit(0)
    starting.result()
    return not serving.done()


if __name__ == "__main__":
    sys.exit(main())
