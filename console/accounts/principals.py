"""Who calls, in the few facts that decide what they may: a person's session or a machine's token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from controlplane.tenancy.models import Membership
from controlplane.tenancy.selectors import owned_tenants, role_of

Role = Membership.Role
ROLE_ORDER = (Role.VIEWER, Role.OPERATOR, Role.ADMIN)


@dataclass(frozen=True, slots=True)
class Principal:
    """Everything an endpoint may ask about its caller."""

    name: str
    """As audited: a user's name, or ``token:`` and a token's name."""
    role: str | None
    """``None``: signed in, but nobody gave this account a role."""
    tenants: frozenset[str] = frozenset()
    """A tenant owner's own tenants (slugs): all that they see and change."""
    scopes: frozenset[str] | None = None
    """``None``: a person, who has all scopes."""

    @property
    def is_machine(self) -> bool:
        return self.scopes is not None

    def has_scope(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes

    def covers(self, role: str, tenant: str | None, scopes: Iterable[str]) -> bool:
        """Whether this caller may hand out such a token: nobody gives away more than they have."""
        if not all(self.has_scope(scope) for scope in scopes):
            return False
        if self.role == Role.TENANT_OWNER:
            return role == Role.TENANT_OWNER and tenant in self.tenants
        if role == Role.TENANT_OWNER:
            return self.role == Role.ADMIN
        return self.role in ROLE_ORDER and ROLE_ORDER.index(Role(role)) <= ROLE_ORDER.index(Role(self.role))


class MachineUser(AnonymousUser):
    """Django's idea of who calls, for a token: nobody in the table of users, but authenticated."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = f"token:{name}"

    @property
    def is_authenticated(self) -> Any:
        return True

    @property
    def is_anonymous(self) -> Any:
        return False

    def get_username(self) -> str:
        return self._name


def principal_of_person(user: AbstractBaseUser | AnonymousUser) -> Principal:
    """The person behind a session. At most two queries."""
    role = role_of(user)
    owns = owned_tenants(user).values_list("slug", flat=True) if role == Role.TENANT_OWNER else ()
    return Principal(name=user.get_username(), role=role, tenants=frozenset(owns))
