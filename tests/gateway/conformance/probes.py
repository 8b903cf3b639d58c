"""The table of probes. Each is sent to ``vllm serve`` and to a gateway; normalised answers must be equal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MODEL = "tiny"
STORY = "Once upon a time a scheduler met a queue that was longer than its memory. It said:"


@dataclass(frozen=True)
class Probe:
    """One request. ``body`` is JSON unless it is ``bytes``."""

    name: str
    path: str
    body: Any = None
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    ours: str = ""
    """Why the gateway answers itself, in other words than vLLM's; status and shape must still agree."""

    @property
    def streams(self) -> bool:
        return isinstance(self.body, dict) and bool(self.body.get("stream"))

    @property
    def generates(self) -> bool:
        """Runs on an engine for a while: worth moving."""
        return isinstance(self.body, dict) and self.path.startswith("/v1/") and not self.ours

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


def completion(name: str, prompt: Any = STORY, *, tokens: int | None = 48, **fields: Any) -> Probe:
    limit = {} if tokens is None else {"max_tokens": tokens}
    body = {"model": MODEL, "prompt": prompt, "temperature": 0, **limit, **fields}
    return Probe(f"completions: {name}", "/v1/completions", _without_none(body))


def chat(name: str, messages: Any = None, *, tokens: int = 48, **fields: Any) -> Probe:
    messages = messages or [{"role": "user", "content": "Who are you?"}]
    body = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": tokens, **fields}
    return Probe(f"chat: {name}", "/v1/chat/completions", _without_none(body))


def response(name: str, given: Any = "Who are you?", *, tokens: int = 40, **fields: Any) -> Probe:
    body = {"model": MODEL, "input": given, "temperature": 0, "max_output_tokens": tokens, **fields}
    return Probe(f"responses: {name}", "/v1/responses", _without_none(body))


def tokens(name: str, body: Any, path: str = "/tokenize") -> Probe:
    return Probe(f"{path[1:]}: {name}", path, body)


def raw(name: str, body: bytes, path: str = "/v1/completions", ours: str = "", **headers: str) -> Probe:
    return Probe(f"raw: {name}", path, body, headers=headers, ours=ours)


def _without_none(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


STREAM: dict[str, Any] = {"stream": True}
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
RANDOM: dict[str, Any] = {"temperature": 1.0, "seed": 7}

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "enum": ["Oslo", "Rome"]}, "days": {"enum": [1, 2]}},
            "required": ["town", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["UTC", "CET"]}},
            "required": ["zone"],
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Alan"]}, "age": {"enum": [36, 41]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
TALK = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "Another one."},
]


def models() -> Iterator[Probe]:
    yield Probe("models: list", "/v1/models", method="GET")
    yield Probe("models: wrong method", "/v1/models", {}, ours="the route table is the gateway's")


def completions() -> Iterator[Probe]:
    yield completion("greedy")
    yield completion("default length", tokens=None)
    yield completion("one token", tokens=1)
    yield completion("stream", **STREAM)
    yield completion("stream with usage", **USAGE)
    yield completion(
        "stream with continuous usage",
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    )
    yield completion("seeded", **RANDOM)
    yield completion("seeded stream", **RANDOM, **STREAM)
    yield completion("top_p, top_k, min_p", **RANDOM, top_p=0.8, top_k=40, min_p=0.02)
    yield completion(
        "penalties", **RANDOM, frequency_penalty=0.5, presence_penalty=0.4, repetition_penalty=1.1
    )
    yield completion("logit bias", logit_bias={"300": 5, "301": -100})
    yield completion("bad words", bad_words=["the", "a"])
    yield completion("allowed token ids", allowed_token_ids=list(range(100, 160)))
    yield completion("min tokens and stop", min_tokens=20, stop=["e"])
    yield completion("stop string", tokens=200, stop=["e"])
    yield completion("several stop strings", tokens=200, stop=["zz", "in", "o "])
    yield completion("stop string kept", tokens=200, stop=["e"], include_stop_str_in_output=True)
    yield completion("stop string in a stream", tokens=200, stop=["er", "at"], **STREAM)
    yield completion("stop string across tokens in a stream", tokens=200, stop=["e t", "s o"], **USAGE)
    yield completion("stop token ids", tokens=200, stop_token_ids=list(range(300, 360)))
    yield completion("ignore eos", tokens=96, ignore_eos=True)
    yield completion("special tokens shown", tokens=96, ignore_eos=True, skip_special_tokens=False)
    yield completion("logprobs 0", logprobs=0)
    yield completion("logprobs 3", logprobs=3)
    yield completion("logprobs in a stream", logprobs=2, **USAGE)
    yield completion("logprobs of a seeded one", logprobs=2, **RANDOM)
    yield completion("prompt logprobs", prompt_logprobs=2, tokens=8)
    yield completion("echo", echo=True)
    yield completion("echo with logprobs", echo=True, logprobs=1)
    yield completion("echo in a stream", echo=True, **USAGE)
    yield completion("echo alone", echo=True, tokens=0)
    yield completion("two choices", n=2, **RANDOM)
    yield completion("four choices in a stream", n=4, **RANDOM, **USAGE)
    yield completion("batch of prompts", ["One", "Two and two", "Three"])
    yield completion("batch in a stream", ["One", "Two and two", "Three"], **USAGE)
    yield completion("batch with choices", ["One", "Two"], n=2, **RANDOM)
    yield completion("batch with echo and logprobs", ["One", "Two"], echo=True, logprobs=1, tokens=6)
    yield completion("token ids as prompt", [72, 101, 108, 300, 301])
    yield completion("batch of token ids", [[72, 101], [108, 300, 301]])
    yield completion("token ids returned", return_token_ids=True)
    yield completion("tokens as ids", logprobs=1, return_tokens_as_token_ids=True)
    yield completion("long text in other scripts", "Grüße, 世界! 🚀 " * 12)
    yield completion("other scripts in a stream", "Grüße, 世界! 🚀 " * 12, **STREAM)
    yield completion("truncated prompt", "word " * 200, truncate_prompt_tokens=20)
    yield completion("no special tokens added", add_special_tokens=False)
    yield completion("user field", user="somebody")
    yield completion("beam search", use_beam_search=True, n=2, tokens=6)


def structured() -> Iterator[Probe]:
    yield completion("json schema", response_format=SCHEMA)
    yield completion("json schema, seeded, streamed", response_format=SCHEMA, **RANDOM, **STREAM)
    yield completion("choice", structured_outputs={"choice": ["yes", "no", "maybe so"]})
    yield completion("regex", structured_outputs={"regex": r"[a-f]{3}-[0-9]{4}"})
    yield completion(
        "regex, seeded stream", structured_outputs={"regex": r"([a-z]{5} ){6}end"}, **RANDOM, **USAGE
    )
    yield completion("grammar", structured_outputs={"grammar": 'root ::= "a" | "b" root'}, tokens=12)
    yield completion("json object", response_format={"type": "json_object"}, tokens=24)
    yield chat("json schema", response_format=SCHEMA)
    yield chat("json schema in a stream", response_format=SCHEMA, **USAGE)
    yield chat("regex", structured_outputs={"regex": r"[0-9]{8}"})
    yield completion(
        "broken schema",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
    )
    yield completion("broken regex", structured_outputs={"regex": "(["})
    yield completion("two kinds of structure", structured_outputs={"regex": "a", "choice": ["b"]})


def chats() -> Iterator[Probe]:
    yield chat("greedy")
    yield chat("conversation", TALK)
    yield chat("stream", **STREAM)
    yield chat("stream with usage", TALK, **USAGE)
    yield chat("seeded", **RANDOM)
    yield chat("seeded stream", **RANDOM, **USAGE)
    yield chat("three choices", n=3, **RANDOM)
    yield chat("three choices in a stream", n=3, **RANDOM, **USAGE)
    yield chat("logprobs", logprobs=True, top_logprobs=3, tokens=24)
    yield chat("logprobs in a stream", logprobs=True, top_logprobs=1, tokens=24, **STREAM)
    yield chat("stop string", stop=["e"], tokens=200)
    yield chat("stop string in a stream", stop=["e", "tion"], tokens=200, **USAGE)
    yield chat("penalties", **RANDOM, frequency_penalty=0.7, presence_penalty=-0.3)
    yield chat("max_completion_tokens", max_completion_tokens=9)
    yield chat(
        "parts of text",
        [{"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]}],
    )
    yield chat("echo", echo=True, tokens=12)
    yield chat("continued message", [*TALK[:3]], add_generation_prompt=False, continue_final_message=True)
    yield chat("min tokens, special tokens", min_tokens=30, skip_special_tokens=False)
    yield chat("long", tokens=300, ignore_eos=True, **USAGE)
    yield chat("token ids returned", return_token_ids=True, tokens=8)


def tools() -> Iterator[Probe]:
    named = {"type": "function", "function": {"name": "weather"}}
    for label, more in (("", {}), (" in a stream", USAGE)):
        yield chat(f"tools offered{label}", tools=[WEATHER], tokens=24, **more)
        yield chat(f"tool named{label}", tools=[WEATHER, CLOCK], tool_choice=named, **more)
        yield chat(f"tool required{label}", tools=[CLOCK], tool_choice="required", **more)
        yield chat(f"tools but none wanted{label}", tools=[WEATHER], tool_choice="none", tokens=24, **more)
    yield chat(
        "tool's answer",
        [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"town": "Oslo", "days": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
        ],
        tools=[WEATHER],
        tokens=24,
    )
    yield chat("unknown tool named", tools=[CLOCK], tool_choice=named)
    yield chat("tool choice without tools", tool_choice=named)


def responses() -> Iterator[Probe]:
    yield response("text")
    yield response("instructions", instructions="Be brief.")
    yield response(
        "conversation",
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "And now?"},
        ],
    )
    yield response(
        "parts",
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Who are you?"}]}],
    )
    yield response("stream", **STREAM)
    yield response("random stream", temperature=0.9, top_p=0.9, stream=True, seed=3)
    yield response(
        "json schema",
        text={"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}},
    )
    yield response("logprobs", include=["message.output_text.logprobs"], top_logprobs=2, tokens=8)
    yield response("metadata", metadata={"a": "b"}, user="u")
    yield response("unknown model", model="nope")
    yield response("no input", None)
    yield response("unknown previous response", previous_response_id="resp_unknown")
    yield response("too long", "word " * 9000)


def tokenizing() -> Iterator[Probe]:
    yield tokens("prompt", {"model": MODEL, "prompt": STORY})
    yield tokens("strings too", {"model": MODEL, "prompt": "Grüße 🚀", "return_token_strs": True})
    yield tokens("chat", {"model": MODEL, "messages": TALK})
    yield tokens("chat with tools", {"model": MODEL, "messages": TALK, "tools": [WEATHER]})
    yield tokens("without model", {"prompt": "x"})
    yield tokens("unknown model", {"model": "nope", "prompt": "x"})
    yield tokens("nothing", {"model": MODEL})
    yield tokens("text of tokens", {"model": MODEL, "tokens": [72, 101, 300]}, "/detokenize")
    yield tokens("no tokens", {"model": MODEL, "tokens": []}, "/detokenize")
    yield tokens("unknown token", {"model": MODEL, "tokens": [10**9]}, "/detokenize")
    yield tokens("wrong type", {"model": MODEL, "tokens": "abc"}, "/detokenize")


def errors() -> Iterator[Probe]:
    bad: dict[str, dict[str, Any]] = {
        "unknown model": {"model": "nope"},
        "no prompt": {"prompt": None},
        "empty prompt": {"prompt": ""},
        "empty batch": {"prompt": []},
        "prompt of a wrong type": {"prompt": {"a": 1}},
        "unknown token in the prompt": {"prompt": [10**6]},
        "negative token in the prompt": {"prompt": [-1]},
        "too long": {"prompt": "word " * 9000},
        "prompt and answer too long": {"max_tokens": 5000},
        "negative max_tokens": {"max_tokens": -1},
        "max_tokens of a wrong type": {"max_tokens": "many"},
        "temperature of a wrong type": {"temperature": "hot"},
        "negative temperature": {"temperature": -1},
        "top_p above 1": {"top_p": 2},
        "top_k below -1": {"top_k": -5},
        "n is 0": {"n": 0},
        "n for greedy": {"n": 3},
        "too many logprobs": {"logprobs": 1000},
        "penalty out of range": {"presence_penalty": 9},
        "seed beyond 64 bits": {"seed": 2**70},
        "min above max tokens": {"min_tokens": 100},
        "stop of a wrong type": {"stop": [1, 2]},
        "empty stop string": {"stop": [""]},
        "stream options without stream": {"stream_options": {"include_usage": True}},
        "bad word of a wrong type": {"bad_words": [3]},
        "logit bias for no token": {"logit_bias": {"x": 1}},
        "logit bias beyond the vocabulary": {"logit_bias": {"999999": 1}},
        "allowed token beyond the vocabulary": {"allowed_token_ids": [999999]},
        "unknown field": {"no_such_field": 1},
        "prompt logprobs in a stream": {"prompt_logprobs": 1, "stream": True},
        "suffix": {"suffix": "end"},
        "echo of a wrong type": {"echo": "perhaps"},
        "response format unknown": {"response_format": {"type": "xml"}},
    }
    for name, fields in bad.items():
        yield completion(name, **({"tokens": 4} | fields))
    yield completion("error in a stream", prompt="word " * 9000, **STREAM)
    yield chat("unknown model", model="nope")
    yield chat("no messages", [{}])
    yield chat("unknown role", [{"role": "martian", "content": "x"}], tokens=4)
    yield chat("content of a wrong type", [{"role": "user", "content": 3}])
    yield chat(
        "image for a text model",
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
            }
        ],
    )
    yield chat("top_logprobs without logprobs", top_logprobs=3)
    yield chat("too long", [{"role": "user", "content": "word " * 9000}])
    yield chat("both ways to continue", add_generation_prompt=True, continue_final_message=True)


def malformed() -> Iterator[Probe]:
    ours = "JSON is checked before vLLM sees it"
    yield raw("no JSON", b"{nonsense", ours=ours)
    yield raw("cut short", b'{"model": "tiny", "prompt": "x"', ours=ours)
    yield raw("no body", b"", ours=ours)
    yield raw("a list", b"[1, 2, 3]")
    yield raw("a string", b'"tiny"')
    yield raw("null", b"null")
    yield raw("bytes that are no text", b'{"model": "tiny", "prompt": "\xff\xfe"}', ours=ours)
    yield raw("chat without messages", b'{"model": "tiny"}', "/v1/chat/completions")
    yield raw("tokenize without JSON", b"{", "/tokenize", ours=ours)
    yield Probe("raw: unknown address", "/v1/nonsense", {}, ours="the route table is the gateway's")
    yield Probe("raw: wrong method", "/v1/completions", method="GET", ours="the route table is the gateway's")


GROUPS = (models, completions, structured, chats, tools, responses, tokenizing, errors, malformed)
PROBES: tuple[Probe, ...] = tuple(probe for group in GROUPS for probe in group())
