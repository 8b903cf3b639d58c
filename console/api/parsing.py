"""JSON bodies within limits: small, shallow, and free of what no text field can hold."""

from __future__ import annotations

from typing import Any

from rest_framework import exceptions, parsers

MAX_BODY_BYTES = 2 * 2**20
MAX_DEPTH = 32


class PlainJSONParser(parsers.JSONParser):
    """DRF's, which also refuses deep nesting, NUL characters and halves of surrogate pairs."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError(f"The JSON is nested more than {MAX_DEPTH} deep.") from None
        check_plain(data)
        return data


def check_plain(data: Any, depth: int = 0) -> None:
    """Raises ``ParseError`` for what could not be stored or sent back."""
    if depth > MAX_DEPTH:
        raise exceptions.ParseError(f"The JSON is nested more than {MAX_DEPTH} deep.")
    if isinstance(data, str):
        check_text(data)
    elif isinstance(data, dict):
        for name, inner in data.items():
            check_text(name)
            check_plain(inner, depth + 1)
    elif isinstance(data, list):
        for inner in data:
            check_plain(inner, depth + 1)


def check_text(text: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise exceptions.ParseError("The text holds a NUL character or half of a surrogate pair.")
