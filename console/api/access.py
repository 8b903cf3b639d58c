"""Who may call what: the role matrix, as a table. An endpoint without a row here is closed to everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from console.accounts import scopes
from controlplane.tenancy.models import Membership

Role = Membership.Role


@dataclass(frozen=True, slots=True)
class Access:
    """Who may: these roles, with this scope if the caller is a machine."""

    roles: frozenset[str]
    scope: str | None = scopes.READ
    """``None``: people only, no machine token."""
    anonymous: bool = False
    any_account: bool = False
    """Signed in is enough, whatever the role."""


LOOKERS: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
ACTORS: Final = frozenset({Role.OPERATOR, Role.ADMIN})
ADMINS: Final = frozenset({Role.ADMIN})
OWNER: Final = frozenset({Role.TENANT_OWNER})

OPEN = Access(LOOKERS | OWNER, None, anonymous=True, any_account=True)
PERSON = Access(LOOKERS | OWNER, None, any_account=True)
ACCOUNT = Access(LOOKERS | OWNER, any_account=True)
LOOK = Access(LOOKERS)
LOOK_OWN = Access(LOOKERS | OWNER)
"""All of it for those who may look; a tenant owner only their own tenant's part."""


def act(scope: str) -> Access:
    return Access(ACTORS, scope)


def act_own(scope: str) -> Access:
    """Operators and admins everywhere, a tenant owner on their own tenant."""
    return Access(ACTORS | OWNER, scope)


def administer(scope: str) -> Access:
    return Access(ADMINS, scope)


def administer_own(scope: str) -> Access:
    """Admins everywhere, a tenant owner on their own tenant."""
    return Access(ADMINS | OWNER, scope)


Row = dict[str, Access]

MATRIX: Final[dict[str, Row]] = {
    # Signing in, and oneself.
    "session": {"post": OPEN, "delete": OPEN},
    "session-options": {"get": OPEN},
    "me": {"get": ACCOUNT},
    "me-password": {"post": PERSON},
    "me-totp": {"get": PERSON, "post": PERSON, "delete": PERSON},
    "me-totp-confirm": {"post": PERSON},
    "me-recovery-codes": {"post": PERSON},
    # The fleet.
    "health": {"get": LOOK},
    "instances": {"get": LOOK},
    "instance": {"get": LOOK},
    "instance-requests": {"get": LOOK},
    "instance-drain": {"post": act(scopes.FLEET)},
    "instance-undrain": {"post": act(scopes.FLEET)},
    "instance-restart": {"post": act(scopes.FLEET)},
    "instance-migrate-all": {"post": act(scopes.FLEET)},
    "instance-stop": {"post": act(scopes.FLEET)},
    "instance-remove": {"post": act(scopes.FLEET)},
    "instance-release": {"post": act(scopes.FLEET)},
    "instance-transitions": {"get": LOOK},
    "instance-log": {"get": administer(scopes.READ)},
    "pools": {"get": LOOK, "post": administer(scopes.FLEET)},
    "pool": {"get": LOOK, "patch": administer(scopes.FLEET), "delete": administer(scopes.FLEET)},
    "pool-scale": {"post": act(scopes.FLEET)},
    "pool-rolling-restart": {"post": act(scopes.FLEET), "delete": act(scopes.FLEET)},
    "pool-autoscaling": {"get": LOOK},
    "pool-hold": {"post": act(scopes.FLEET), "delete": act(scopes.FLEET)},
    "pool-decisions": {"get": LOOK},
    "requests": {"get": LOOK_OWN},
    "request": {"get": LOOK_OWN},
    "request-cancel": {"post": act_own(scopes.FLEET)},
    "request-set-class": {"post": act(scopes.FLEET)},
    "playground-chat": {"post": Access(ACTORS | OWNER, None)},
    "policies": {"get": LOOK, "post": act(scopes.POLICIES)},
    "policy-schema": {"get": LOOK},
    "policy-validate": {"post": Access(LOOKERS)},
    "policy-preview": {"post": Access(LOOKERS)},
    "policy-rollback": {"post": act(scopes.POLICIES)},
    "policy": {"get": LOOK},
    "policy-activate": {"post": act(scopes.POLICIES)},
    "policy-diff": {"get": LOOK},
    "policy-yaml": {"get": LOOK},
    "traces": {"get": LOOK, "post": act(scopes.POLICIES)},
    "trace": {"get": LOOK, "delete": act(scopes.POLICIES)},
    "what-ifs": {"get": LOOK, "post": act(scopes.POLICIES)},
    "what-if": {"get": LOOK},
    "what-if-cancel": {"post": act(scopes.POLICIES)},
    "migrations": {"get": LOOK, "post": act(scopes.FLEET)},
    "migration": {"get": LOOK},
    "migration-summary": {"get": LOOK},
    "operations": {"get": LOOK},
    "operation": {"get": LOOK},
    "rounds": {"get": LOOK},
    "round": {"get": LOOK},
    "round-explain": {"get": LOOK},
    # Tenants.
    "tenants": {"get": LOOK_OWN, "post": administer(scopes.TENANTS)},
    "tenant": {"get": LOOK_OWN, "patch": administer_own(scopes.TENANTS)},
    "tenant-class": {"post": act(scopes.TENANTS)},
    "tenant-close": {"post": administer(scopes.TENANTS)},
    "tenant-reopen": {"post": administer(scopes.TENANTS)},
    "tenant-keys": {"get": LOOK_OWN, "post": administer_own(scopes.TENANTS)},
    "tenant-key": {"get": LOOK_OWN, "patch": administer_own(scopes.TENANTS)},
    "key-rotate": {"post": administer_own(scopes.TENANTS)},
    "key-revoke": {"post": act_own(scopes.TENANTS)},
    "tenant-members": {"get": LOOK_OWN, "post": administer_own(scopes.TENANTS)},
    "tenant-member": {"delete": administer_own(scopes.TENANTS)},
    "tenant-limits": {"get": LOOK_OWN, "post": administer_own(scopes.TENANTS)},
    "tenant-limit": {"delete": administer_own(scopes.TENANTS)},
    "tenant-boosts": {"post": act(scopes.TENANTS)},
    "tenant-limit-use": {"get": LOOK_OWN},
    "configuration": {"get": administer(scopes.READ), "post": administer(scopes.TENANTS)},
    "pool-history": {"get": LOOK},
    "slo-class-history": {"get": LOOK},
    "limits": {"get": LOOK, "post": administer(scopes.TENANTS)},
    "boosts": {"get": LOOK_OWN},
    "boost-end": {"post": act(scopes.TENANTS)},
    "usage": {"get": LOOK_OWN},
    "attainment": {"get": LOOK_OWN},
    "slo-classes": {"get": LOOK_OWN, "post": administer(scopes.TENANTS)},
    "slo-class": {
        "get": LOOK_OWN,
        "patch": administer(scopes.TENANTS),
        "delete": administer(scopes.TENANTS),
    },
    # Alerts and webhooks.
    "alerts": {"get": LOOK},
    "alert": {"get": LOOK},
    "alert-ack": {"post": act(scopes.ALERTS)},
    "alert-silence": {"post": act(scopes.ALERTS)},
    "alert-rules": {"get": LOOK, "post": administer(scopes.ALERTS)},
    "alert-rule": {
        "get": LOOK,
        "patch": administer(scopes.ALERTS),
        "delete": administer(scopes.ALERTS),
    },
    "alert-kinds": {"get": LOOK},
    "silences": {"get": LOOK, "post": act(scopes.ALERTS)},
    "silence-end": {"post": act(scopes.ALERTS)},
    "webhooks": {"get": administer(scopes.READ), "post": administer(scopes.ALERTS)},
    "webhook": {
        "get": administer(scopes.READ),
        "patch": administer(scopes.ALERTS),
        "delete": administer(scopes.ALERTS),
    },
    "webhook-rotate": {"post": administer(scopes.ALERTS)},
    "webhook-test": {"post": administer(scopes.ALERTS)},
    "webhook-deliveries": {"get": administer(scopes.READ)},
    # Records and accounts.
    "audit": {"get": LOOK},
    "people": {"get": administer(scopes.ACCOUNTS), "post": administer(scopes.ACCOUNTS)},
    "person": {"get": administer(scopes.ACCOUNTS), "patch": administer(scopes.ACCOUNTS)},
    "tokens": {"get": administer_own(scopes.ACCOUNTS), "post": administer_own(scopes.ACCOUNTS)},
    "token-revoke": {"post": administer_own(scopes.ACCOUNTS)},
    "schema": {"get": ACCOUNT},
    "metrics": {"get": Access(LOOKERS, scopes.METRICS)},
    "metrics-targets": {"get": Access(LOOKERS, scopes.METRICS)},
    "metrics-instance": {"get": Access(LOOKERS, scopes.METRICS)},
    "metrics-instance-targets": {"get": Access(LOOKERS, scopes.METRICS)},
}


def access_to(route: str, method: str) -> Access | None:
    """The row for this endpoint and method; ``None``: there is none, so nobody may."""
    return MATRIX.get(route, {}).get("get" if method in {"head", "options"} else method)
