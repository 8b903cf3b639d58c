"""How django-allauth's ways in become accounts here: roles by the issuer's claim, no open sign-up."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings
from django.http import HttpRequest

from console.accounts.services import follow_issuer

RANKED = ("admin", "operator", "viewer")


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by admins; nobody signs up with a password."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class SocialAdapter(DefaultSocialAccountAdapter):
    """Whom the issuer vouches for gets an account; its role follows the issuer at every sign-in."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        if sociallogin.is_existing:
            _follow(sociallogin.user, sociallogin)

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> Any:
        user = super().save_user(request, sociallogin, form)
        _follow(user, sociallogin)
        return user


def _follow(person: Any, sociallogin: Any) -> None:
    role = role_in(claims_of(sociallogin))
    follow_issuer(person=person, role=role, governs=bool(settings.OIDC_ROLES))


def claims_of(sociallogin: Any) -> dict[str, Any]:
    """What the issuer said of the person, in the ID token and the user info."""
    extra = sociallogin.account.extra_data
    return {**extra.get("id_token", {}), **extra.get("userinfo", {}), **extra}


def role_in(claims: dict[str, Any]) -> str | None:
    """The highest role that the settings give to one of the claim's values; ``None``: no word of roles.

    ``LLUMDECK_OIDC_ROLES=ops=operator,admins=admin`` and ``LLUMDECK_OIDC_ROLE_CLAIM=groups``.
    """
    pairs = (pair.partition("=") for pair in settings.OIDC_ROLES)
    granted = {value: role for value, _, role in pairs if role in RANKED}
    held = claims.get(settings.OIDC_ROLE_CLAIM, [])
    roles = {granted[each] for each in ([held] if isinstance(held, str) else held) if each in granted}
    return next((role for role in RANKED if role in roles), None)
