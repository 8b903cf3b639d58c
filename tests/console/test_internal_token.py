"""``manage.py internal_token``: what Prometheus shows to gateways."""

from __future__ import annotations

from io import StringIO

from django.conf import settings
from django.core.management import call_command

from controlplane.gateway import operator


def test_what_is_printed_opens_a_gateways_metrics():
    printed = StringIO()
    call_command("internal_token", stdout=printed)
    token = printed.getvalue()
    assert token.endswith("\n") and len(token.split()) == 1
    header = [(b"authorization", b"Bearer " + token.strip().encode())]
    assert operator.allowed(header, settings.INTERNAL_TOKEN)
    assert not operator.allowed(header, settings.SECRET_KEY)
