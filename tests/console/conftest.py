"""What the console's tests share: people of each role, a small fleet, a hub fed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from controlplane.fleet.models import Instance, Pool
from controlplane.tenancy.models import Membership, SLOClass, Tenant
from tests.controlplane import builders

PASSWORD = "a-long-and-plain-one"


def person(role: str | None, *, name: str = "") -> User:
    """An account with this role; ``None``: an account without any."""
    user = User.objects.create_user(name or f"the-{role or 'stranger'}", password=PASSWORD)
    if role == Membership.Role.TENANT_OWNER:
        Membership.objects.create(user=user, role=role, tenant=Tenant.objects.get(slug="acme"))
    elif role is not None:
        Membership.objects.create(user=user, role=role)
    return user


@pytest.fixture
def fleet(db: Any) -> dict[str, Instance]:
    """Pool ``main`` with three ready instances, and tenant ``acme``."""
    pool: Pool = builders.pool("main")
    Tenant.objects.create(slug="acme", name="acme", slo_class=SLOClass.objects.get(name="standard"))
    names = [f"main-{number}" for number in (1, 2, 3)]
    return {name: builders.instance(name, of=pool) for name in names}


@pytest.fixture
def as_role(fleet: dict[str, Instance]) -> Any:
    """``as_role("viewer")``: a client signed in with that role, that checks CSRF as production does."""

    def make(role: str | None) -> Client:
        client = Client(enforce_csrf_checks=False)
        client.force_login(person(role))
        return client

    return make
