"""Reading machine tokens and people."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import User
from django.db.models import QuerySet

from console.accounts import tokens
from console.accounts.models import MachineToken
from console.accounts.principals import Principal


def machine_tokens() -> QuerySet[MachineToken]:
    """Newest first."""
    return MachineToken.objects.select_related("tenant", "issued_by")


def valid_token(raw_token: str, *, now: datetime) -> MachineToken | None:
    """The row of a token that may be used now; ``None`` for unknown, expired, revoked or orphaned ones."""
    if not tokens.is_well_formed(raw_token):
        return None
    row = machine_tokens().filter(token_hash=tokens.digest(raw_token)).first()
    if row is None or not row.is_valid(now=now):
        return None
    issuer = row.issued_by
    if (issuer is not None and not issuer.is_active) or (row.tenant is not None and not row.tenant.active):
        return None
    return row


def principal_of_token(row: MachineToken) -> Principal:
    return Principal(
        name=f"token:{row.name}",
        role=row.role,
        tenants=frozenset({row.tenant.slug} if row.tenant is not None else ()),
        scopes=frozenset(row.scopes),
    )


def people() -> QuerySet[User]:
    """Accounts with their roles, by name."""
    return User.objects.prefetch_related("memberships__tenant").order_by("username")
