"""Which call of a person or machine is being served: what the audit adds to every entry by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Origin(NamedTuple):
    """Empty outside a call."""

    request_id: str = ""
    address: str | None = None


NOBODY = Origin()
_current: ContextVar[Origin] = ContextVar("origin", default=NOBODY)


def current_origin() -> Origin:
    return _current.get()


@contextmanager
def acting_for(origin: Origin) -> Iterator[None]:
    """Audit entries and operations made inside carry this origin."""
    token = _current.set(origin)
    try:
        yield
    finally:
        _current.reset(token)
