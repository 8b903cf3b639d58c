"""What the fields of tenancy accept, with sentences that say what would be right."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

SCOPES = {
    "inference": "generate text: completions, chat, responses, messages",
    "tokenize": "turn text into tokens and back, count tokens",
    "models": "list the models",
}
"""What a key may be allowed to do. A key without any scope may do nothing."""
DEFAULT_SCOPES = ("inference", "tokenize", "models")
MAX_NETWORKS = 50

slug = RegexValidator(
    r"^[a-z0-9][a-z0-9-]{0,62}$", "use lower-case letters, digits and hyphens, at most 63 characters"
)
colour = RegexValidator(r"^#[0-9a-f]{6}$", "use six lower-case hexadecimal digits after a #, as in #3a7bd5")


def default_scopes() -> list[str]:
    return list(DEFAULT_SCOPES)


def scopes(value: Any) -> None:
    """A list of known scopes, each once."""
    for each in _texts(value, "scopes"):
        if each not in SCOPES:
            raise ValidationError(f"there is no scope {each!r}; there are: {', '.join(SCOPES)}")


def networks(value: Any) -> None:
    """A list of addresses or networks in CIDR form; empty means from anywhere."""
    given = _texts(value, "networks")
    if len(given) > MAX_NETWORKS:
        raise ValidationError(f"at most {MAX_NETWORKS} networks, got {len(given)}")
    for each in given:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ValidationError(
                f"{error}; write an address (192.0.2.7) or a network (192.0.2.0/24, 2001:db8::/32)"
            ) from None


def _texts(value: Any, noun: str) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValidationError(f"{noun} must be a list of texts")
    if len(set(value)) != len(value):
        raise ValidationError(f"{noun} must not repeat")
    return value
