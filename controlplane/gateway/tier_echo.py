"""OpenAI's ``service_tier`` in answers: the tier that was used, in the place where vLLM leaves it empty."""

from __future__ import annotations

FIELD = b'"service_tier":'
VALUES = (b"null", b'"auto"', b'"default"', b'"flex"', b'"scale"', b'"priority"')


def echo(body: bytes, tier: bytes) -> bytes:
    """``body``, a JSON answer or an event of a stream, with the tier used."""
    at = body.find(FIELD)
    while at >= 0:
        begin = at + len(FIELD)
        begin += body[begin : begin + 1] == b" "
        # Inside a JSON string the quotes would be escaped, so this is a field and nothing a model has said.
        if body[at - 1 : at] != b"\\" and body.startswith(VALUES, begin):
            end = begin + len(next(value for value in VALUES if body.startswith(value, begin)))
            body = b'%s"%s"%s' % (body[:begin], tier, body[end:])
        at = body.find(FIELD, begin)
    return body
