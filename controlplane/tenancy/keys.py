"""The form of API keys: ``ld_`` and 256 random bits; stored as SHA-256, shown once."""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "ld_"
SHOWN_LENGTH = 10
_FORM = re.compile(r"ld_[A-Za-z0-9_-]{43}")


def new_raw_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def shown_prefix(raw_key: str) -> str:
    """What may be shown and logged of a key."""
    return raw_key[:SHOWN_LENGTH]


def is_well_formed(raw_key: str) -> bool:
    return _FORM.fullmatch(raw_key) is not None


def digest(raw_key: str) -> str:
    """The stored form. A lookup by digest gives a guesser no timing to learn from."""
    return hashlib.sha256(raw_key.encode()).hexdigest()
