"""Engine agents as processes of their own, without Ray: forked from one that has vLLM loaded already.

Loading vLLM takes most of an engine's start; whoever kills engines by the dozen pays it once.
``python -m tests.faults.zygote FOLDER [vllm]`` reads one JSON line per agent from its standard input,
forks it, and answers with the process id.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from engine_agents.config import AgentConfig

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Nothing outlives the test run, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(folder: Path, kind: str) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    if kind == "vllm":
        from engine_agents.vllm_engine import environment

        environment.stay_offline_for("/")
        with environment.loading():
            importlib.import_module("engine_agents.vllm_engine.serving")
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run_agent(folder, order)
        print(pid, flush=True)


def run_agent(folder: Path, order: dict[str, Any]) -> None:
    """In the forked process; never returns."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    log = os.open(folder / f"{order['name']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        from tests.faults.agent_process import serve

        config = msgspec.convert(order["config"], AgentConfig)
        asyncio.run(serve(config, order["control"]))
        status = 0
    except BaseException:
        logging.exception("the agent's process ends")
    finally:
        os._exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
