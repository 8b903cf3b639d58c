"""Gateways by name and by the small number that vLLM sorts outputs by."""

from __future__ import annotations


class Clients:
    """Numbers are given out in order of appearance and never reused."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The client's number; a new one at the first call."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number

    def name(self, number: int) -> str | None:
        """Inverse of :meth:`number`; ``None`` for a number that was never given."""
        return self._names[number] if 0 <= number < len(self._names) else None
