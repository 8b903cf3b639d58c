"""What may stand in a path."""

from __future__ import annotations

from django.urls import register_converter


class Name:
    """An id or a name: letters, digits and a little punctuation."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._:#@+~-]{0,159}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class Number:
    """A row's number, small enough for every database."""

    regex = r"[0-9]{1,15}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


def register() -> None:
    register_converter(Name, "name")
    register_converter(Number, "number")
