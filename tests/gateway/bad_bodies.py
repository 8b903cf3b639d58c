"""Bodies that no client should send, from a seed: strange values, broken JSON, odd shapes, too much."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MODEL = "tiny"
PATHS = {
    "/v1/completions": {"model": MODEL, "prompt": "x", "max_tokens": 2},
    "/v1/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2},
    "/v1/responses": {"model": MODEL, "input": "x", "max_output_tokens": 2},
    "/tokenize": {"model": MODEL, "prompt": "x"},
    "/detokenize": {"model": MODEL, "tokens": [1]},
}
FIELDS = (
    "model", "prompt", "messages", "input", "tokens", "max_tokens", "max_completion_tokens",
    "max_output_tokens", "n", "best_of", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "echo",
    "suffix", "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "priority",
    "stream_options", "service_tier", "min_tokens", "stop_token_ids", "bad_words", "response_format",
    "structured_outputs", "tools", "tool_choice", "truncate_prompt_tokens", "user", "add_special_tokens",
    "cache_salt", "request_id", "allowed_token_ids", "prompt_embeds",
    "kv_transfer_params", "vllm_xargs", "chat_template", "documents", "chat_template_kwargs",
    "reasoning_effort", "parallel_tool_calls", "instructions", "text", "include", "previous_response_id",
    "metadata", "background", "store", "session_id", "length_penalty", "mm_processor_kwargs",
)  # fmt: skip
"""Fields for log-probabilities (beam search among them) are left out: the simulated engine has none."""

INNER = (*FIELDS, "type", "role", "content", "regex", "schema", "json_schema", "name", "")


@dataclass(frozen=True)
class BadBody:
    path: str
    content: bytes


def bad_bodies(count: int, seed: int) -> Iterator[BadBody]:
    chance = random.Random(seed)
    for _ in range(count):
        path = chance.choice(sorted(PATHS))
        body = dict(PATHS[path])
        for _ in range(chance.randint(1, 4)):
            body[chance.choice(FIELDS)] = value(chance)
        if chance.random() < 0.15:
            body.pop(chance.choice(sorted(body)))
        content = json.dumps(body, allow_nan=True).encode(errors="replace")
        yield BadBody(path, mangled(chance, content) if chance.random() < 0.35 else content)


def value(chance: random.Random, depth: int = 0) -> Any:
    kinds = (
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.choice((0, 1, -1, 2, 129, 1000, 2**31, 2**53, 2**63, -(2**64), 10**400)),
        lambda: chance.choice((0.5, -1.0, 1e308, float("nan"), float("inf"), -float("inf"), 1e-320)),
        lambda: "".join(chance.choice("aZ9 \x00\n\"\\ü世🚀\ud800{[<|") for _ in range(chance.randint(0, 12))),
        lambda: chance.choice((MODEL, "nope", "x" * 5000, "user", "auto", "priority", "json_object")),
        lambda: [value(chance, depth + 1) for _ in range(chance.randint(0, 4))] if depth < 3 else [],
        lambda: {chance.choice(INNER): value(chance, depth + 1) for _ in range(chance.randint(0, 3))}
        if depth < 3 else {},
        lambda: [chance.choice((0, 5, -1, 10**9))] * chance.choice((1, 3, 5000)),
        lambda: {"type": chance.choice(("json_schema", "json_object", "function", "text", 5)),
                 "json_schema": {"name": "x", "schema": value(chance, depth + 1) if depth < 3 else {}}},
        lambda: {"regex": chance.choice(("a{9999999}", "(a*)*b", "[", "(?=x)", "(" * 300, "((a{99}){99})"))},
    )  # fmt: skip
    return chance.choice(kinds)()


def mangled(chance: random.Random, content: bytes) -> bytes:
    at = chance.randrange(len(content) + 1)
    ways = (
        lambda: content[:at],
        lambda: content[:at] + bytes([chance.randrange(256)]) + content[at:],
        lambda: content[:at] + content[at + 1 :],
        lambda: content + content,
        lambda: b"\xef\xbb\xbf" + content,
        lambda: content.replace(b"{", b'{"model": "nope", ', 1),
        lambda: content[:-1] + b', "max_tokens": 3, "max_tokens": -3}',
        lambda: content[:-1] + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        lambda: content[:-1] + b', "x": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
        lambda: content[:-1] + b', "temperature": NaN}',
        lambda: content[:-1] + b', "temperature": 1e999}',
        lambda: content.decode().encode("utf-16"),
        lambda: b"",
        lambda: b"\x00" * 50,
        lambda: chance.randbytes(60),
    )
    return chance.choice(ways)()
