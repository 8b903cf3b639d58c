"""OpenAI's ``service_tier`` in answers: the tier that was used, in the place where vLLM leaves it empty."""

from __future__ import annotations

import re

_FIELD = b'"service_tier":'
# Inside a JSON string the quotes would be escaped, so this is a field and nothing a model has said.
_VALUE = re.compile(rb'(?<!\\)("service_tier": ?)(?:null|"(?:auto|default|flex|scale|priority)")')


def echo(body: bytes, tier: bytes) -> bytes:
    """``body``, a JSON answer or an event of a stream, with the tier used."""
    if _FIELD not in body:
        return body
    return _VALUE.sub(rb'\g<1>"%s"' % tier, body)
