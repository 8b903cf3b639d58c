"""``manage.py internal_token``: the token that gateways take from the console, and from Prometheus."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = (
        "Print the token for a gateway's /metrics and /internal/status. It follows from SECRET_KEY: "
        "run this where the gateways' settings are, and again after that secret has changed."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(settings.INTERNAL_TOKEN)
