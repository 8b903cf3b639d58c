"""People: accounts, their role across the fleet, and the tenants they own."""

from __future__ import annotations

import secrets

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from controlplane.tenancy.models import Membership, Tenant
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.writing import facts, note, save

Role = Membership.Role


@transaction.atomic
def create_person(
    *, username: str, role: str, actor: str, password: str = "", tenant: Tenant | None = None
) -> str:
    """A person who may sign in; returns the password (a random one where none is given), stored hashed."""
    password = password or secrets.token_urlsafe(15)
    user = User(username=username, is_staff=role == Role.ADMIN)
    validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    add_member(user=user, role=role, tenant=tenant, actor=actor, action="person.create")
    return password


@transaction.atomic
def add_member(
    *,
    user: User,
    role: str,
    tenant: Tenant | None = None,
    actor: str,
    reason: str = "",
    action: str = "member.add",
) -> Membership:
    """Give a person one role across the fleet, or (with ``tenant``) the ownership of a tenant.

    Raises ``ValidationError`` when role and tenant do not go together,
    :class:`TenancyConflictError` when the person has that already.
    """
    if (role == Role.TENANT_OWNER) != (tenant is not None):
        raise ValidationError(
            {"tenant": "an owner owns a tenant; viewers, operators and admins see all of them"}
        )
    if Membership.objects.filter(user=user, tenant=tenant).exists():
        what = f"owns tenant {tenant.slug!r}" if tenant else "has a role across the fleet"
        raise TenancyConflictError(f"{user.get_username()} {what} already: change or remove that")
    member = Membership()
    values = {"user": user, "role": role, "tenant": tenant}
    save(member, values, action=action, actor=actor, reason=reason)
    return member


@transaction.atomic
def change_role(*, member: Membership, role: str, actor: str, reason: str = "") -> Membership:
    """Another role across the fleet.

    Raises ``ValidationError``; :class:`TenancyConflictError` for the last admin.
    """
    if member.tenant is not None or role == Role.TENANT_OWNER:
        raise ValidationError({"role": "ownership is added and removed, not changed into another role"})
    if role != Role.ADMIN:
        _keep_one_admin(member)
    save(member, {"role": role}, action="member.change", actor=actor, reason=reason)
    return member


@transaction.atomic
def remove_member(*, member: Membership, actor: str, reason: str = "") -> None:
    """Take the role or the ownership away. Raises :class:`TenancyConflictError` for the last admin."""
    _keep_one_admin(member)
    note(member, action="member.remove", actor=actor, reason=reason, before=facts(member))
    member.delete()


def _keep_one_admin(member: Membership) -> None:
    if member.role != Role.ADMIN:
        return
    others = Membership.objects.filter(role=Role.ADMIN, user__is_active=True).exclude(pk=member.pk)
    if not others.exists() and not User.objects.filter(is_superuser=True, is_active=True).exists():
        raise TenancyConflictError("this is the last admin: make somebody else one first")
