"""Clients under load: streamed requests of many shapes, and the comparison with an undisturbed run."""

from __future__ import annotations

import asyncio
import difflib
import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

KEY = "good-key"
LOGPROB_TOLERANCE = 2e-3
"""Recomputed in one pass instead of token by token, sums are taken in another order."""
STOP_CHARACTERS = 12
LIMIT_S = 120.0
"""Of a whole stream; who has no end by then hangs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of request. Every field of ``body`` goes into ``/v1/completions``."""

    name: str
    body: dict[str, Any]
    prompt_tokens: int = 40
    vllm_only: bool = False
    """What a paced engine does not do."""
    stops: bool = False
    """Ends at a stop string; which one is found in an undisturbed run (see :class:`Oracle`)."""


LONG = {"max_tokens": 220, "ignore_eos": True}
SHAPES = (
    Shape("greedy", {"temperature": 0, **LONG}),
    Shape("long prompt", {"temperature": 0, **LONG}, prompt_tokens=700),
    Shape("seeded", {"temperature": 1.0, "seed": 7, **LONG}),
    Shape("stop string", {"temperature": 1.0, "seed": 13, **LONG}, stops=True),
    Shape("seeded long prompt", {"temperature": 1.0, "seed": 9, **LONG}, prompt_tokens=500),
    Shape(
        "penalties",
        {
            "temperature": 0.9,
            "seed": 11,
            "frequency_penalty": 0.4,
            "presence_penalty": 0.3,
            "repetition_penalty": 1.1,
            "min_tokens": 180,
            "max_tokens": 220,
        },
        vllm_only=True,
    ),
    Shape("log-probabilities", {"temperature": 0, "logprobs": 3, **LONG}, vllm_only=True),
    Shape("two choices", {"temperature": 1.0, "seed": 21, "n": 2, **LONG}, vllm_only=True),
    Shape(
        "structured",
        {
            "temperature": 0.8,
            "seed": 5,
            "max_tokens": 220,
            "structured_outputs": {"regex": "(alpha|beta|gamma|delta)( (alpha|beta|gamma|delta)){60}"},
        },
        vllm_only=True,
    ),
    Shape("bad words", {"temperature": 0, "bad_words": ["the", "and"], **LONG}, vllm_only=True),
)
TEXT = (
    "The fleet behaves like one big fair engine because every request is its tokens and a cache is "
    "only there to make the next one cheap so nothing that dies can take a token with it"
)


def prompt_of(tokens: int, salt: int) -> str:
    """About so many tokens of text, the same for the same arguments."""
    rng, words = random.Random(f"{tokens}/{salt}"), TEXT.split()
    return " ".join(rng.choice(words) for _ in range(max(3, tokens // 3)))


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a shape and a salt (another prompt)."""

    shape: Shape
    salt: int = 0
    stop: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        return (self.shape.name, self.salt, self.stop)

    @property
    def body(self) -> dict[str, Any]:
        body = {
            "model": "tiny",
            "prompt": prompt_of(self.shape.prompt_tokens, self.salt),
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            **self.shape.body,
        }
        return {**body, "stop": [self.stop]} if self.stop else body


@dataclass
class Choice:
    """What a client has of one choice."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[tuple[str, float]] = field(default_factory=list)


@dataclass
class Answer:
    """What a client got, and when."""

    ask: Ask
    request_id: str = ""
    status: int = 0
    choices: dict[int, Choice] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    broken: str = ""
    """Why it came to no end at all."""
    done: bool = False
    """``[DONE]`` was seen."""
    comments: int = 0
    """Lines that only keep the connection alive."""
    times_s: list[float] = field(default_factory=list)
    """Monotonic, of every event with tokens."""

    @property
    def count(self) -> int:
        return sum(len(choice.tokens) for choice in self.choices.values())

    def longest_gap_ms(self, since_s: float) -> float:
        """Between two events with tokens of which the later one came after ``since_s``."""
        pairs = zip(self.times_s, self.times_s[1:], strict=False)
        return 1e3 * max((later - earlier for earlier, later in pairs if later > since_s), default=0.0)

    def take(self, line: str) -> None:
        if line.startswith(":"):
            self.comments += 1
        if not line.startswith("data: "):
            return
        payload = line.removeprefix("data: ")
        if payload == "[DONE]":
            self.done = True
            return
        event = json.loads(payload)
        if "error" in event:
            self.error = event["error"]
            return
        self.request_id = event["id"]
        if event.get("usage"):
            self.usage = event["usage"]
        if event["choices"]:
            self.times_s.append(time.monotonic())
        for part in event["choices"]:
            self._take_choice(part)

    def _take_choice(self, part: dict[str, Any]) -> None:
        choice = self.choices.setdefault(part["index"], Choice())
        choice.tokens += part.get("token_ids") or []
        choice.text += part["text"]
        choice.finish_reason = part["finish_reason"] or choice.finish_reason
        logprobs = part.get("logprobs")
        if logprobs:
            choice.logprobs += zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)


@dataclass(frozen=True, slots=True)
class Difference:
    """What is wrong with an answer. Tokens; ``wrong`` also counts each other field that differs."""

    lost: int = 0
    duplicated: int = 0
    wrong: int = 0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.lost + other.lost, self.duplicated + other.duplicated, self.wrong + other.wrong
        )


def compare(expected: Answer, got: Answer) -> Difference:
    """An answer against that of the undisturbed run."""
    found = Difference(wrong=int(got.usage != expected.usage) if got.error is None else 0)
    for index, choice in expected.choices.items():
        found += _compare_choice(choice, got.choices.get(index, Choice()), whole=got.error is None)
    return found


def _compare_choice(expected: Choice, got: Choice, *, whole: bool) -> Difference:
    found = compare_tokens(expected.tokens, got.tokens)
    if not whole:
        return found
    others = [
        expected.text != got.text,
        expected.finish_reason != got.finish_reason,
        not _same_logprobs(expected.logprobs, got.logprobs),
    ]
    return found + Difference(wrong=sum(others))


def compare_tokens(expected: Sequence[int], got: Sequence[int]) -> Difference:
    """Which tokens are missing, which came twice, which are others."""
    if list(expected) == list(got):
        return Difference()
    found = Difference()
    for kind, first, last, begin, end in difflib.SequenceMatcher(
        None, expected, got, autojunk=False
    ).get_opcodes():
        if kind == "delete":
            found += Difference(lost=last - first)
        elif kind == "insert":
            run, length = list(got[begin:end]), end - begin
            repeated = run in (list(got[max(0, begin - length) : begin]), list(got[end : end + length]))
            found += Difference(duplicated=length) if repeated else Difference(wrong=length)
        elif kind == "replace":
            found += Difference(wrong=max(last - first, end - begin))
    return found


def _same_logprobs(expected: Sequence[tuple[str, float]], got: Sequence[tuple[str, float]]) -> bool:
    return len(expected) == len(got) and all(
        one[0] == other[0] and abs(one[1] - other[1]) <= LOGPROB_TOLERANCE
        for one, other in zip(expected, got, strict=True)
    )


class Clients:
    """Streams at once, on an event loop of their own."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def one(self, answer: Answer, limit_s: float = LIMIT_S) -> Answer:
        """Never raises for what the server does (or fails to do): it stands in the answer."""
        try:
            async with asyncio.timeout(limit_s):
                await self._stream(answer, limit_s)
        except (TimeoutError, httpx.HTTPError) as error:
            answer.broken = f"{type(error).__name__} after {answer.count} tokens"
        return answer

    async def _stream(self, answer: Answer, limit_s: float) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"{self._url}/v1/completions"
        async with (
            httpx.AsyncClient(timeout=limit_s, headers=headers) as client,
            client.stream("POST", url, json=answer.ask.body) as reply,
        ):
            answer.status = reply.status_code
            if reply.status_code != httpx.codes.OK:
                answer.error = json.loads(await reply.aread())["error"]
                return
            async for line in reply.aiter_lines():
                answer.take(line)


class Load:
    """Streams side by side, on the clients' event loop.

    A lasting load starts the same request again where one has come to a good end, so that whoever wants
    a running request finds one, however fast the engines are.
    """

    def __init__(self, clients: Clients, asks: Sequence[Ask], *, lasting: bool) -> None:
        self._clients, self._lasting = clients, lasting
        self.answers = [Answer(ask) for ask in asks]
        """Of all streams so far; grows while it lasts."""

    async def run(self) -> None:
        await asyncio.gather(*(self._one_after_the_other(answer) for answer in tuple(self.answers)))

    async def _one_after_the_other(self, answer: Answer) -> None:
        await self._clients.one(answer)
        while self._lasting and answer.done and answer.error is None:
            answer = Answer(answer.ask)
            self.answers.append(answer)
            await self._clients.one(answer)

    def let_end(self) -> None:
        self._lasting = False


def late_words(text: str) -> str:
    """A piece of it, of several tokens, that does not occur before the last third."""
    late = range(2 * len(text) // 3, len(text) - STOP_CHARACTERS)
    pieces = (text[at : at + STOP_CHARACTERS] for at in late)
    return next(piece for piece in pieces if text.find(piece) >= late.start)


def draw(rng: random.Random, count: int, shapes: Iterable[Shape], salts: int) -> list[Ask]:
    """Every shape as often as the others, with random prompts of a few."""
    known = list(shapes)
    rng.shuffle(known)
    return [Ask(known[index % len(known)], rng.randrange(salts)) for index in range(count)]
