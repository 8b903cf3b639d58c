"""Signing in elsewhere: the OpenID Connect issuer that the settings name, if any."""

from __future__ import annotations

from django.conf import settings


def offered() -> list[dict[str, str]]:
    """Id, name and where the browser goes; empty where no issuer is set."""
    if not settings.OIDC_ISSUER:
        return []
    provider_id = settings.OIDC_PROVIDER_ID
    url = f"/accounts/oidc/{provider_id}/login/?process=login"
    return [{"id": provider_id, "name": settings.OIDC_NAME, "login_url": url}]
