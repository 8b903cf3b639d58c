"""A gateway and a migration session in small: they use nothing but the Engine protocol."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_agents.config import AgentConfig
from engine_agents.engines.port import EngineInfo, Frozen, Pinned, StepOutputs
from engine_agents.vllm_engine.engine import VllmEngine

BLOCK_TOKENS = 32
PATIENCE_S = 30.0
EVERYTHING: dict[str, Any] = {
    "temperature": 0.9,
    "seed": 4,
    "logprobs": 3,
    "presence_penalty": 0.4,
    "frequency_penalty": 0.3,
    "repetition_penalty": 1.1,
    "min_tokens": 3,
    "top_p": 0.9,
    "top_k": 30,
}
"""Whatever kernels and masks sampling may need."""


@dataclass
class Received:
    """What a gateway has of one request."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: Any = None
    first_start: int | None = None
    clients: set[str] = field(default_factory=set)


class Outputs:
    """Collects step outputs by engine id and insists that none is lost or repeated."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._received: dict[str, Received] = defaultdict(Received)
        self._gaps: list[str] = []
        self.preempted: list[str] = []

    def on_step(self, steps: Sequence[StepOutputs]) -> None:
        from engine_agents.vllm_engine.codec import decode_outputs

        with self._changed:
            for step in steps:
                outputs = decode_outputs(step.payload).outputs
                assert [output.request_id for output in outputs] == list(step.engine_ids)
                for start, output in zip(step.starts, outputs, strict=True):
                    self._take(step.client, start, output)
            self._changed.notify_all()

    def _take(self, client: str, start: int, output: Any) -> None:
        received = self._received[output.request_id]
        received.clients.add(client)
        if received.first_start is None:
            received.first_start = start
        if start != received.first_start + len(received.tokens):
            self._gaps.append(f"{output.request_id}: {start} after {len(received.tokens)}")
        received.tokens += output.new_token_ids
        if output.new_logprobs is not None:
            ids, values = output.new_logprobs.logprob_token_ids, output.new_logprobs.logprobs
            received.logprobs += [
                (tuple(map(int, row)), tuple(map(float, numbers)))
                for row, numbers in zip(ids, values, strict=True)
            ]
        if output.finish_reason is not None:
            received.finish_reason = str(output.finish_reason)
            received.stop_reason = output.stop_reason

    def of(self, engine_id: str) -> Received:
        with self._changed:
            assert not self._gaps, self._gaps
            return self._received[engine_id]

    def wait(self, engine_id: str, reached: Callable[[Received], bool]) -> Received:
        """Until ``reached`` holds of what was received for this request."""
        with self._changed:
            done = self._changed.wait_for(lambda: reached(self._received[engine_id]), PATIENCE_S)
            assert done, f"{engine_id} has {self._received[engine_id]}"
        return self.of(engine_id)

    def forget(self) -> None:
        with self._changed:
            self._received.clear()
            self._gaps.clear()
            self.preempted.clear()


@dataclass
class Site:
    """One engine and what came out of it."""

    name: str
    engine: VllmEngine
    info: EngineInfo
    outputs: Outputs
    first_uses_cpu_s: dict[str, float] = field(default_factory=dict)
    """What the engine's thread spent on the first requests after its start, by kind."""

    @classmethod
    def started(cls, name: str, model: Path, **engine_args: Any) -> Site:
        outputs = Outputs()
        engine = VllmEngine(agent_config(model, instance_id=name, engine_args=engine_args))
        info = engine.start(on_step=outputs.on_step, on_preempted=outputs.preempted.append)
        return cls(name, engine, info, outputs)

    def add(self, request_id: str, prompt: Sequence[int], *, gateway: str = "gateway", **options: Any) -> str:
        """Start a request; returns its engine id."""
        from engine_agents.vllm_engine.requests import make_add

        add = make_add(request_id, prompt, **options)
        outcome = self.engine.add(gateway, add).result(PATIENCE_S)
        assert outcome.accepted, outcome
        return f"{add.request_id}#{add.dispatch}"

    def run(self, request_id: str, prompt: Sequence[int], **options: Any) -> Received:
        """Start a request and wait for its end."""
        return self.finished(self.add(request_id, prompt, **options))

    def note_first_uses(self) -> None:
        """Of a plain request (the second: the first one brings the caches up) and of one with everything."""
        kinds: dict[str, dict[str, Any]] = {"first": {}, "plain": {}, "everything": EVERYTHING}
        for salt, (kind, options) in enumerate(kinds.items()):
            began_s = self._engine_cpu_s()
            self.run(kind, prompt_of(40, salt), max_tokens=6, ignore_eos=True, **options)
            self.first_uses_cpu_s[kind] = self._engine_cpu_s() - began_s
        self.outputs.forget()

    def _engine_cpu_s(self) -> float:
        return self.engine.serving.thread.call(time.thread_time).result(PATIENCE_S)

    def finished(self, engine_id: str) -> Received:
        return self.outputs.wait(engine_id, lambda received: received.finish_reason is not None)

    def at_least(self, engine_id: str, tokens: int) -> Received:
        return self.outputs.wait(engine_id, lambda received: len(received.tokens) >= tokens)

    def read(self, pinned: Pinned, first: int, count: int) -> bytes:
        """The bytes of these pinned blocks."""
        data = bytearray(max(0, count) * self.info.block_size_tokens * self.info.kv_bytes_per_token)
        self.engine.read(pinned, first, count, memoryview(data))
        return bytes(data)

    def abort_all(self) -> None:
        """Whatever an earlier test that failed has left."""
        left = self.engine.requests().result(PATIENCE_S)
        self.engine.abort([info.engine_id for info in left]).result(PATIENCE_S)
        serving = self.engine.serving
        serving.thread.call(serving.arrivals.drop_all).result(PATIENCE_S)

    def wait_idle(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            load = self.engine.load()
            if not load.running and not load.waiting:
                return
            time.sleep(0.005)


def agent_config(model: Path | str, **changes: Any) -> AgentConfig:
    settings = {"instance_id": "a", "pool": "p", "served_model": "tiny", "redis_url": "", "model": str(model)}
    return AgentConfig(**{**settings, **changes})


def prompt_of(length: int, salt: int = 0) -> list[int]:
    """A prompt of so many tokens, the same for the same arguments."""
    return [(17 * position + position * position + 31 * salt) % 700 + 6 for position in range(length)]


def copy_stage(source: Site, destination: Site, engine_id: str, reservation: Any, first_block: int) -> int:
    """Copy the blocks that are full now; returns the number of the next block to copy."""
    pinned = source.engine.pin(engine_id, first_block).result(PATIENCE_S)
    try:
        if pinned.total_tokens > reservation.blocks * BLOCK_TOKENS - BLOCK_TOKENS:
            destination.engine.extend(reservation, pinned.total_tokens + BLOCK_TOKENS).result(PATIENCE_S)
        if pinned.blocks:
            data = source.read(pinned, first_block, pinned.blocks)
            destination.engine.write(reservation, first_block, pinned.blocks, data)
    finally:
        source.engine.unpin(pinned).result(PATIENCE_S)
    return first_block + pinned.blocks


def reserve(
    source: Site, destination: Site, engine_id: str, new_id: str, tokens: int, gateway: str = "g2"
) -> Any:
    image = source.engine.image(engine_id).result(PATIENCE_S)
    return destination.engine.hold(gateway, new_id, image, tokens).result(PATIENCE_S)


def move(
    source: Site,
    destination: Site,
    engine_id: str,
    new_id: str,
    *,
    between_stages: Callable[[], None] = lambda: None,
    change: Callable[[Frozen], Frozen] = lambda frozen: frozen,
) -> int:
    """Move a running request in two stages and a tail; returns the blocks copied while it ran."""
    state = source.engine.pin(engine_id, 0).result(PATIENCE_S)
    source.engine.unpin(state).result(PATIENCE_S)
    reservation = reserve(source, destination, engine_id, new_id, state.total_tokens + BLOCK_TOKENS)
    copied = copy_stage(source, destination, engine_id, reservation, 0)
    between_stages()
    copied = copy_stage(source, destination, engine_id, reservation, copied)
    frozen = source.engine.freeze(engine_id, copied).result(PATIENCE_S)
    destination.engine.adopt(reservation, change(frozen)).result(PATIENCE_S)
    source.engine.release(engine_id).result(PATIENCE_S)
    return copied
