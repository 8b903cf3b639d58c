"""The form of machine tokens: ``ldm_`` and 256 random bits; stored as SHA-256, shown once."""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "ldm_"
SHOWN_LENGTH = 11
_FORM = re.compile(r"ldm_[A-Za-z0-9_-]{43}")


def new_raw_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def is_well_formed(raw_token: str) -> bool:
    return _FORM.fullmatch(raw_token) is not None


def digest(raw_token: str) -> str:
    """The stored form. A lookup by digest gives a guesser no timing to learn from."""
    return hashlib.sha256(raw_token.encode()).hexdigest()
