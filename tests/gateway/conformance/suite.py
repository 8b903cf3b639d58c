"""``vllm serve`` and a whole gateway over two engines, side by side, asked the same."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from engine_agents.config import AgentConfig
from tests.gateway.conformance.answers import Answer, difference, normalised
from tests.gateway.conformance.probes import PROBES, Probe
from tests.gateway.conformance.vllm_serve import KV_BYTES, MAX_MODEL_LEN
from tests.gateway.harness import MODEL, POOL, Fleet

FRONT = {
    "max_model_len": MAX_MODEL_LEN,
    "dtype": "float32",
    "enable_auto_tool_choice": True,
    "tool_call_parser": "hermes",
}
START_LIMIT_S = 480.0
AT_ONCE = 8
KEY = {"Authorization": "Bearer good-key"}


@dataclass(frozen=True)
class Verdict:
    """``problem`` is empty where both agree."""

    probe: Probe
    theirs: Answer
    problem: str


class Reference:
    """vLLM's own server, as a process of its own."""

    def __init__(self, model: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "tests.gateway.conformance.vllm_serve", port, str(model)]
        self._log = (model.parent / "vllm-serve.log").open("w+")
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, env=dict(os.environ), start_new_session=True
        )

    def wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/v1/models", timeout=5).status_code == 200:
                    return
            time.sleep(0.2)
        self._log.seek(0)
        raise AssertionError(f"vllm serve did not start:\n{self._log.read()[-3000:]}")

    def close(self) -> None:
        """The whole group: its engine is another process."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._log.close()


def add_engine(fleet: Fleet, name: str, model: Path) -> None:
    from engine_agents.vllm_engine.engine import VllmEngine

    config = AgentConfig(
        instance_id=name,
        pool=POOL,
        served_model=MODEL,
        model=str(model),
        redis_url="",
        engine_args={"max_model_len": MAX_MODEL_LEN},
        kv_memory_bytes=KV_BYTES,
        gateway_timeout_s=60.0,
        stage_timeout_s=20.0,
    )
    fleet.add_server(name, config, VllmEngine(config))


def ask(client: httpx.Client, probe: Probe) -> Answer:
    headers = {"Content-Type": "application/json", **probe.headers}
    reply = client.request(probe.method, probe.path, content=probe.content, headers=headers)
    return normalised(reply.status_code, reply.headers.get("content-type", ""), reply.content)


def ask_all(url: str, probes: Iterable[Probe]) -> list[Answer]:
    with httpx.Client(base_url=url, headers=KEY, timeout=180) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda probe: ask(client, probe), probes))


def compare(reference: dict[str, Answer], url: str, probes: Iterable[Probe]) -> list[Verdict]:
    probes = list(probes)
    answers = ask_all(url, probes)
    return [
        Verdict(probe, reference[probe.name], difference(probe, reference[probe.name], ours))
        for probe, ours in zip(probes, answers, strict=True)
    ]


def reference_answers(reference: Reference) -> dict[str, Answer]:
    return dict(zip((probe.name for probe in PROBES), ask_all(reference.url, PROBES), strict=True))


@contextlib.contextmanager
def moving(fleet: Fleet) -> Iterator[None]:
    """Every live request is moved to the other engine, again and again."""
    over = threading.Event()

    def move_all() -> None:
        while not over.is_set():
            for entry in fleet.loop.call(lambda: list(fleet.gateway.journal)):
                fleet.move(entry)
            over.wait(0.01)

    mover = threading.Thread(target=move_all, name="mover")
    mover.start()
    try:
        yield
    finally:
        over.set()
        mover.join()


@contextlib.contextmanager
def killing(fleet: Fleet, name: str, after: int) -> Iterator[None]:
    """The engine dies once so many requests have ended and it runs some."""
    start = len(fleet.records)
    done = threading.Event()

    def kill_in_the_middle() -> None:
        while not done.wait(0.005):
            busy = fleet.loop.call(
                lambda: [e for e in fleet.gateway.journal if e.owner_id == name and e.tokens]
            )
            if len(fleet.records) - start >= after and busy:
                fleet.kill(name)
                return

    killer = threading.Thread(target=kill_in_the_middle, name="killer")
    killer.start()
    try:
        yield
    finally:
        done.set()
        killer.join()
