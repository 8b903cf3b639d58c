"""Requests of ``benchmarks.live_fleet``: what is asked, when what came of it, and who asks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from engine_agents.engines.paced_wire import PacedOutput, decode_outputs, encode_request

DRAIN_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Request:
    """``group`` is the benchmark's own word for it, ``slo_class`` what the fleet is told."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    slo_class: str = "standard"
    group: str = ""


@dataclass(slots=True)
class Timing:
    """Of one request; times are monotonic, and it arrives when the workload says so."""

    request: Request
    arrived_s: float
    sent_s: float
    first_s: float = 0.0
    finished_s: float = 0.0
    failed: bool = False

    @property
    def served(self) -> bool:
        return bool(self.finished_s) and not self.failed

    @property
    def ttft_ms(self) -> float:
        return 1e3 * (self.first_s - self.arrived_s)

    @property
    def end_to_end_ms(self) -> float:
        return 1e3 * (self.finished_s - self.arrived_s)


class Front:
    """The front half without HTTP and tokenizer: requests are tokens, answers are times."""

    app: Any = None
    engine_version = ""
    max_model_len = 1024

    def __init__(self, version: str) -> None:
        self.engine_version = version
        self.timings: dict[str, Timing] = {}
        self.open = 0

    def decode(self, payload: bytes) -> Sequence[Any]:
        return decode_outputs(payload).outputs

    def deliver(self, outputs: Sequence[Any]) -> None:
        now_s = time.monotonic()
        for output in outputs:
            timing = self.timings.get(output.request_id)
            if timing is None or timing.finished_s:
                continue
            timing.first_s = timing.first_s or now_s
            if output.finish_reason is not None:
                timing.finished_s = now_s
                self.open -= 1

    def fail(self, request_id: str, status: int, message: str) -> None:
        timing = self.timings[request_id]
        timing.failed, timing.finished_s = True, time.monotonic()
        self.open -= 1

    def trim(self, output: Any, skip: int) -> Any:
        return msgspec.structs.replace(output, new_token_ids=output.new_token_ids[skip:])

    def tokens_only(self, request_id: str, token_ids: list[int]) -> Any:
        return PacedOutput(request_id, token_ids)

    def continued(self, output: Any) -> Any:
        return output

    def close(self) -> None:
        pass


async def drive(process: Any, front: Front, requests: Sequence[Request], terms: Any, seed: int) -> None:
    """An open loop: each request goes out when its time comes, however slow the answers are."""
    from controlplane.gateway.admission import Caller
    from controlplane.gateway.live_requests import Call, current_call
    from controlplane.tenancy.types import KeyIdentity
    from engine_agents.vllm_engine.frontend_port import NewRequest

    identities = {name: KeyIdentity(1, "bench", 1, "bench", name, (name,), terms) for name in terms}
    dice, began_s = random.Random(seed), time.monotonic() + 0.2
    for number, each in enumerate(requests):
        arrived_s = began_s + each.at_s
        await asyncio.sleep(max(0.0, arrived_s - time.monotonic()))
        name = f"{process.incarnation}-{number}"
        tokens = [dice.randrange(3, 250) for _ in range(each.prompt_tokens)]
        sent_s = time.monotonic()
        front.timings[name] = Timing(each, arrived_s, sent_s)
        front.open += 1
        caller = Caller(identities[each.slo_class], "", each.slo_class, terms[each.slo_class].rank)
        current_call.set(Call(name, caller, sent_s, datetime.now(UTC)))
        body = encode_request(name, tokens, max_tokens=each.output_tokens, temperature=0.0)
        process.gateway.add(NewRequest(name, body, each.prompt_tokens, each.output_tokens, True))
    deadline_s = time.monotonic() + DRAIN_LIMIT_S
    while front.open and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once a run
        await asyncio.sleep(0.05)


def percentile(values: Sequence[float], share: float) -> float:
    """By interpolation, to a tenth; of nothing it is not a number."""
    import numpy as np

    return round(float(np.percentile(values, share)), 1) if values else float("nan")
