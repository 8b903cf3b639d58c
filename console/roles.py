"""Who may do what in the console: one table for the API, the socket and the page."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from controlplane.tenancy.models import Membership
from controlplane.tenancy.selectors import role_of

LOOK = frozenset({Membership.Role.VIEWER, Membership.Role.OPERATOR, Membership.Role.ADMIN})
ACT = frozenset({Membership.Role.OPERATOR, Membership.Role.ADMIN})

Person = AbstractBaseUser | AnonymousUser


def may_look(person: Person) -> bool:
    """May see the fleet, its tenants and the audit list."""
    return role_of(person) in LOOK


def may_act(person: Person) -> bool:
    """May drain, migrate and change classes."""
    return role_of(person) in ACT
