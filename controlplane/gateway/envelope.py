"""The form and bounds of a request's body, and what of it concerns the gateway; the rest is vLLM's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from controlplane.gateway import body_form, errors
from controlplane.gateway.errors import ApiError

MAX_BODY_BYTES = 4 * 2**20
MAX_CHOICES = 128
MAX_PROMPTS = 256
MAX_STOPS = 64
MAX_STOP_CHARACTERS = 4_096
"""Of all stop strings together: each is looked for in every token's text."""
MAX_SCHEMA_BYTES = 128 * 2**10
"""Of tools, a response format or structured outputs: they are compiled before anything is generated."""
FEW_ITEMS = 16
"""Up to so many input items are left to vLLM's own check, whatever they are."""
BYTES_PER_TOKEN = 4
"""Of English text; only for what is set aside before the tokenizer has counted."""


class RefusedError(Exception):
    """The request is answered with ``self.error`` and goes no further."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(slots=True)
class Envelope:
    """What of a body concerns the gateway; the rest is vLLM's.

    Not frozen, because a frozen one costs four times as much to build.
    """

    service_tier: str = ""
    priority: int = 0
    """vLLM's: the higher, the later."""
    max_tokens: int | None = None
    """Output tokens asked for, per choice; ``None`` where the client did not say."""
    choices: int = 1
    body_bytes: int = 0
    input_items: tuple[Any, ...] = ()
    """Of ``/v1/responses``, where they are many: see ``FrontHalf.input_problem``."""

    @property
    def likely_prompt_tokens(self) -> int:
        """A guess before the tokenizer has counted."""
        return self.body_bytes // BYTES_PER_TOKEN + 1


_NULL = msgspec.Raw(b"null")


class _Fields(msgspec.Struct):
    service_tier: Any = None
    priority: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    best_of: Any = None
    prompt: msgspec.Raw = _NULL
    stop: Any = None
    bad_words: Any = None
    tools: msgspec.Raw = _NULL
    response_format: msgspec.Raw = _NULL
    structured_outputs: msgspec.Raw = _NULL
    text: msgspec.Raw = _NULL
    input: msgspec.Raw = _NULL


_fields = msgspec.json.Decoder(_Fields)
_anything = msgspec.json.Decoder()


def read_envelope(body: bytes) -> Envelope:
    """Check a body's form and bounds. Raises :class:`RefusedError` (400); leaves fine points to vLLM."""
    try:
        body.decode()
        fields = _fields.decode(body)
    except msgspec.ValidationError:
        # JSON, but no object: vLLM says what it expected. It must be whole JSON all the same.
        return _checked(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(errors.bad_json(_json_problem(error))) from None
    _check_form(body)
    _check_bounds(fields)
    tier, priority, choices = fields.service_tier, fields.priority, fields.n
    return Envelope(
        tier if isinstance(tier, str) else "",
        0 if priority is None else _whole(priority) or 0,
        _max_tokens(fields),
        1 if choices is None else max(1, _whole(choices) or 1),
        len(body),
        () if fields.input is _NULL else _many_items(bytes(fields.input)),
    )


def _check_bounds(fields: _Fields) -> None:
    """Of what is there: most bodies have none of these."""
    if fields.n is not None:
        _check_choices("n", fields.n)
    if fields.best_of is not None:
        _check_choices("best_of", fields.best_of)
    if fields.stop is not None:
        _check_words("stop", fields.stop)
    if fields.bad_words is not None:
        _check_words("bad_words", fields.bad_words)
    if fields.prompt is not _NULL:
        _check_prompts(bytes(fields.prompt))
    for name in ("tools", "response_format", "structured_outputs", "text"):
        raw = getattr(fields, name)
        if raw is not _NULL:
            _check_schema(name, bytes(raw))


def _max_tokens(fields: _Fields) -> int | None:
    for each in (fields.max_completion_tokens, fields.max_output_tokens, fields.max_tokens):
        if each is not None and (number := _whole(each)) is not None:
            return number
    return None


def _many_items(raw: bytes) -> tuple[Any, ...]:
    if not raw.startswith(b"[") or raw.count(b",") < FEW_ITEMS:
        return ()
    return tuple(_anything.decode(raw))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _checked(body: bytes) -> Envelope:
    try:
        _anything.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(errors.bad_json(_json_problem(error))) from None
    _check_form(body)
    return Envelope(body_bytes=len(body))


def _check_form(body: bytes) -> None:
    problem = body_form.problem(body)
    if problem:
        raise RefusedError(errors.bad_json(problem))


def _json_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).removeprefix("JSON is malformed: ") or "it cannot be read"


def _check_choices(name: str, value: Any) -> None:
    if isinstance(value, int) and value > MAX_CHOICES:
        raise RefusedError(errors.out_of_range(name, f"must be at most {MAX_CHOICES}, got {value}"))


def _check_words(name: str, value: Any) -> None:
    if not isinstance(value, list):
        value = [value]
    if len(value) > MAX_STOPS:
        raise RefusedError(errors.out_of_range(name, f"at most {MAX_STOPS}, got {len(value)}"))
    size = sum(len(each) for each in value if isinstance(each, str))
    if size > MAX_STOP_CHARACTERS:
        raise RefusedError(
            errors.out_of_range(name, f"at most {MAX_STOP_CHARACTERS} characters in all, got {size}")
        )


def _check_schema(name: str, raw: bytes) -> None:
    if len(raw) > MAX_SCHEMA_BYTES:
        raise RefusedError(
            errors.out_of_range(name, f"must be at most {MAX_SCHEMA_BYTES} bytes, got {len(raw)}")
        )
    problem = body_form.schema_problem(_anything.decode(raw))
    if problem:
        raise RefusedError(errors.out_of_range(name, problem))


def _check_prompts(raw: bytes) -> None:
    """A list of prompts is as many requests; a list of token ids is one."""
    if not raw.startswith(b"[") or not raw[1:65].lstrip().startswith((b'"', b"[", b"{")):
        return
    count = len(_anything.decode(raw))
    if count > MAX_PROMPTS:
        raise RefusedError(
            errors.out_of_range("prompt", f"at most {MAX_PROMPTS} in one request, got {count}")
        )
