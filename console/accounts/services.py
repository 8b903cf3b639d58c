"""Writing machine tokens and accounts; every change is audited."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from console.accounts import scopes as all_scopes
from console.accounts import tokens
from console.accounts.models import MachineToken
from console.accounts.principals import Principal
from controlplane.records.services import audit
from controlplane.tenancy.models import Membership, Tenant
from controlplane.tenancy.services import add_member, change_role, remove_member

USED_RESOLUTION = timedelta(minutes=1)


class AccountError(ValueError):
    """What was asked cannot be; ``field`` names the input at fault, empty where it is none."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@transaction.atomic
def issue_token(
    *,
    name: str,
    role: str,
    scopes: Iterable[str],
    by: Principal,
    issuer: User | None,
    tenant: Tenant | None = None,
    expires_at: datetime | None = None,
    reason: str = "",
) -> tuple[MachineToken, str]:
    """A token and, this once, its raw form.

    Raises :class:`AccountError`: nobody gives more than they have.
    """
    wanted = sorted(set(scopes))
    if unknown := set(wanted) - set(all_scopes.MEANINGS):
        known = ", ".join(all_scopes.MEANINGS)
        raise AccountError(f"there is no scope {', '.join(sorted(unknown))}; there are: {known}", "scopes")
    if (role == Membership.Role.TENANT_OWNER) != (tenant is not None):
        raise AccountError("a tenant owner's token names its tenant, and only such a one does", "tenant")
    if not by.covers(role, tenant.slug if tenant else None, wanted):
        raise AccountError("a token cannot have more than who issues it: choose a lower role or fewer scopes",
                           "role")  # fmt: skip
    now = timezone.now()
    if expires_at is not None and expires_at <= now:
        raise AccountError("lies in the past", "expires_at")
    raw_token = tokens.new_raw_token()
    row = MachineToken.objects.create(
        name=name,
        prefix=raw_token[: tokens.SHOWN_LENGTH],
        token_hash=tokens.digest(raw_token),
        role=role,
        tenant=tenant,
        scopes=wanted,
        issued_by=issuer,
        created_at=now,
        expires_at=expires_at,
    )
    _audit_token(row, "token.issue", by.name, reason, {"role": role, "scopes": wanted})
    return row, raw_token


@transaction.atomic
def revoke_token(*, token: MachineToken, by: Principal, reason: str = "") -> MachineToken:
    """Refuse it from the next call on."""
    token.revoke(now=timezone.now())
    token.save(update_fields=["revoked_at"])
    _audit_token(token, "token.revoke", by.name, reason, {"revoked": True})
    return token


def note_use(token: MachineToken, *, now: datetime) -> None:
    """Remember when it was last used, to the minute: one write a minute, not one per call."""
    if token.last_used_at is None or now - token.last_used_at > USED_RESOLUTION:
        MachineToken.objects.filter(pk=token.pk).update(last_used_at=now)


def check_password_rules(password: str, person: User, *, field: str) -> None:
    """Raises :class:`AccountError` with the rules that the password breaks."""
    try:
        validate_password(password, person)
    except ValidationError as error:
        raise AccountError(" ".join(error.messages), field) from error


@transaction.atomic
def change_password(*, person: User, old: str, new: str) -> None:
    """Raises :class:`AccountError`: ``old_password``, or ``new_password`` with the rules it breaks."""
    if not person.check_password(old):
        raise AccountError("is not your present password", "old_password")
    check_password_rules(new, person, field="new_password")
    person.set_password(new)
    person.save(update_fields=["password"])
    audit(
        actor=person.username,
        action="person.change_password",
        object_type="person",
        object_id=person.username,
    )


@transaction.atomic
def set_person_role(*, person: User, role: str | None, by: Principal, reason: str = "") -> User:
    """Another role across the fleet, or (``None``) none.

    Raises ``TenancyConflictError`` for the last admin.
    """
    member = Membership.objects.filter(user=person, tenant=None).first()
    if member is None:
        if role is not None:
            add_member(user=person, role=role, actor=by.name, reason=reason)
    elif role is None:
        remove_member(member=member, actor=by.name, reason=reason)
    elif role != member.role:
        change_role(member=member, role=role, actor=by.name, reason=reason)
    return person


def follow_issuer(*, person: User, role: str | None, governs: bool) -> None:
    """Give a person who signed in elsewhere the role that the issuer's claim stands for.

    Where the issuer ``governs`` roles (the settings map its claim), no role there is none here.
    """
    issuer = Principal(name="system:oidc", role=Membership.Role.ADMIN)
    if governs:
        set_person_role(person=person, role=role, by=issuer, reason="as the sign-in's issuer says")


@transaction.atomic
def set_person_active(*, person: User, active: bool, by: Principal, reason: str = "") -> User:
    """Close an account (its sessions end, its tokens are refused) or open it again."""
    if not active and person.username == by.name:
        raise AccountError("you cannot close your own account; ask another admin")
    before = person.is_active
    person.is_active = active
    person.save(update_fields=["is_active"])
    if not active:
        end_sessions(person)
    audit(
        actor=by.name,
        action="person.open" if active else "person.close",
        object_type="person",
        object_id=person.username,
        before={"active": before},
        after={"active": active},
        reason=reason,
    )
    return person


def end_sessions(person: User) -> int:
    """Sign a person out everywhere; returns how many sessions that were."""
    own = [
        row.pk
        for row in Session.objects.filter(expire_date__gt=timezone.now()).iterator()
        if row.get_decoded().get("_auth_user_id") == str(person.pk)
    ]
    Session.objects.filter(pk__in=own).delete()
    return len(own)


def _audit_token(row: MachineToken, action: str, actor: str, reason: str, after: dict[str, object]) -> None:
    audit(
        actor=actor,
        action=action,
        object_type="machine_token",
        object_id=str(row.pk),
        after={"name": row.name, "prefix": row.prefix, **after},
        reason=reason,
    )
