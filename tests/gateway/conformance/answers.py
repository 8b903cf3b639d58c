"""Answers without what differs from call to call, and in what two of them disagree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.gateway.conformance.probes import Probe

NAMES = re.compile(
    r"\b(cmpl|chatcmpl|chatcmpl-tool|call|resp|msg|rs|fc|modelperm|tool|tknz|chatcmpl-tool|fcall)[-_][0-9A-Za-z-]{6,}"
)
TIMES = frozenset({"created", "created_at", "completed_at"})
LEFT_OUT = frozenset({"service_tier", "system_fingerprint", "kv_transfer_params"})
"""``service_tier``: the gateway tells the class served. The others say which process answered."""
MERGED_EVENTS = frozenset({"response.output_text.delta", "response.reasoning_text.delta"})


@dataclass(frozen=True)
class Answer:
    """``status`` and the normalised content; ``broken`` says what a stream itself did wrong."""

    status: int
    kind: str
    content: Any
    broken: str = ""


def normalised(status: int, content_type: str, body: bytes) -> Answer:
    kind = content_type.partition(";")[0].strip()
    if kind == "text/event-stream":
        return _stream(status, body)
    try:
        return Answer(status, kind, plain(json.loads(body)))
    except ValueError:
        return Answer(status, kind, body.decode(errors="replace"))


def plain(value: Any, name: str = "") -> Any:
    """Ids by their kind, times by their being there, numbers to four places."""
    if name in TIMES and isinstance(value, int | float):
        return "time"
    if isinstance(value, dict):
        return {key: plain(each, key) for key, each in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.3e}")
    return NAMES.sub(r"\1-id", value) if isinstance(value, str) else value


def events(body: bytes) -> Iterator[str]:
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].lstrip() for line in block.split("\n") if line.startswith("data:"))
        if data:
            yield data


def _stream(status: int, body: bytes) -> Answer:
    found = list(events(body))
    chunks = [json.loads(data) for data in found if data != "[DONE]"]
    if any("type" in chunk for chunk in chunks):
        content = _response_events(chunks)
    else:
        content = _choices(chunks)
    content["done"] = found[-1] == "[DONE]" if found else False
    return Answer(status, "text/event-stream", content, _disorder(chunks))


def _disorder(chunks: list[dict[str, Any]]) -> str:
    """A stream has one id, one time of creation, one model, and rising numbers."""
    for name in ("id", "created", "model"):
        seen = {chunk[name] for chunk in chunks if name in chunk}
        if len(seen) > 1:
            return f"{len(seen)} different values of {name}"
    numbers = [chunk["sequence_number"] for chunk in chunks if "sequence_number" in chunk]
    return "" if numbers == list(range(len(numbers))) else f"sequence numbers {numbers[:12]}"


def _choices(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Chunks of completions put together, choice by choice: where they are cut is a matter of time."""
    whole: dict[str, Any] = {"choices": {}, "order": []}
    for chunk in chunks:
        usage = chunk.get("usage")
        if "error" in chunk:
            whole["error"] = plain(chunk["error"])
        for choice in chunk.get("choices", ()):
            _join(whole["choices"].setdefault(choice["index"], {}), plain(choice))
        if usage:
            whole["usage"] = usage
            if not chunk.get("choices"):
                whole["order"].append("usage")
    return whole


def _join(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        known = whole.get(name)
        if name in ("index", "role", "finish_reason", "stop_reason", "id", "type", "name"):
            whole[name] = value if value is not None else known
        elif isinstance(value, dict):
            whole[name] = known if known is not None else {}
            _join(whole[name], value)
        elif name == "tool_calls" and isinstance(value, list):
            calls = whole.setdefault(name, {})
            for call in value:
                _join(calls.setdefault(call.get("index", 0), {}), call)
        elif isinstance(value, str | list) and known is not None:
            whole[name] = known + value
        elif value is not None or name not in whole:
            whole[name] = value


def _response_events(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Events of ``/v1/responses``; neighbouring pieces of text become one."""
    found: list[dict[str, Any]] = []
    for chunk in chunks:
        event = plain({name: value for name, value in chunk.items() if name != "sequence_number"})
        if event.get("type") in MERGED_EVENTS and found and found[-1].get("type") == event["type"]:
            found[-1]["delta"] += event["delta"]
            found[-1]["logprobs"] = (found[-1].get("logprobs") or []) + (event.get("logprobs") or [])
        else:
            found.append(event)
    return {"events": found}


def difference(probe: Probe, theirs: Answer, ours: Answer) -> str:
    """In one line; empty where they agree."""
    if ours.broken:
        return f"our stream: {ours.broken}"
    if theirs.status != ours.status:
        return f"status {theirs.status}, ours {ours.status}: {str(ours.content)[:200]}"
    if probe.ours:
        error = ours.content.get("error") if isinstance(ours.content, dict) else None
        good = isinstance(error, dict) and {"message", "type", "param", "code"} <= set(error)
        return "" if good else f"not an error in OpenAI's shape: {str(ours.content)[:200]}"
    if theirs.kind != ours.kind:
        return f"content type {theirs.kind}, ours {ours.kind}"
    return _first_difference("", theirs.content, ours.content)


def _first_difference(path: str, theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted({*theirs, *ours}, key=str):
            if name not in theirs or name not in ours:
                return f"{path}.{name} only in {'ours' if name in ours else 'theirs'}"
            found = _first_difference(f"{path}.{name}", theirs[name], ours[name])
            if found:
                return found
        return ""
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = enumerate(zip(theirs, ours, strict=True))
        return next((found for i, (a, b) in pairs if (found := _first_difference(f"{path}[{i}]", a, b))), "")
    return "" if _same(theirs, ours) else f"{path}: {str(theirs)[:150]!r}, ours {str(ours)[:150]!r}"


def _same(theirs: Any, ours: Any) -> bool:
    """Numbers may differ by what another batch does to the last digits."""
    if isinstance(theirs, float) and isinstance(ours, float):
        return abs(theirs - ours) <= 2e-3 * max(1.0, abs(theirs))
    return bool(theirs == ours)
