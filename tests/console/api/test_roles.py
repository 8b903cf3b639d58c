"""Every endpoint × who calls. A new endpoint without a row in both tables fails."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from console import metrics
from console.accounts import scopes
from console.accounts.models import MachineToken
from console.accounts.principals import Principal
from console.accounts.services import issue_token, revoke_token
from console.api import urls
from console.api.access import MATRIX, Access
from controlplane.tenancy.models import Membership, SLOClass, Tenant
from tests.console.api.endpoints import CALLS
from tests.console.conftest import person

PEOPLE = ("viewer", "operator", "admin", "tenant_owner")
METHODS = ("get", "post", "put", "patch", "delete")
ADMIN = Principal("test", "admin")
ALL_SCOPES = tuple(scopes.MEANINGS)


def call(client: Client, method: str, path: str, body: object, **extra):
    place = path if path.startswith("/") else f"/api/v1/{path}"
    return getattr(client, method)(place, data=body, content_type="application/json", **extra)


def offered() -> set[tuple[str, str]]:
    found = set()
    for route in [*urls.urlpatterns, *metrics.urlpatterns]:
        view = getattr(route.callback, "view_class", None)
        if view is not None:
            found |= {(route.name, method) for method in METHODS if hasattr(view, method)}
    return found


def test_every_endpoint_and_method_has_a_row_in_the_table_and_a_call_in_the_walk():
    table = {(name, method) for name, row in MATRIX.items() for method in row}
    assert offered() == table
    assert offered() == set(CALLS)
    assert get_resolver("console.api.urls").url_patterns[-1].callback.__name__ == "not_found"


def test_an_endpoint_without_a_row_is_closed_to_admins(live_redis, as_role, monkeypatch):
    monkeypatch.delitem(MATRIX, "audit")
    answer = as_role("admin").get("/api/v1/audit")
    assert answer.status_code == 403
    assert "no row" in answer.json()["detail"]


JUDGING = {"policy-validate", "policy-preview"}
"""They take a body and change nothing."""


def test_viewers_change_nothing_but_their_own_account():
    for name, row in MATRIX.items():
        writes = {method for method, access in row.items() if method != "get" and "viewer" in access.roles}
        assert not writes or name in {"session", *JUDGING} or name.startswith("me"), name


def test_owners_are_let_in_only_where_rows_are_narrowed_to_their_tenants():
    narrowed = (
        "tenant",
        "key-",
        "token",
        "boosts",
        "usage",
        "attainment",
        "slo-class",
        "request",
        "playground",
    )
    for name, row in MATRIX.items():
        for method, access in row.items():
            if "tenant_owner" in access.roles and not access.any_account:
                assert name.startswith(narrowed), (name, method)


@pytest.fixture
def globex(fleet) -> Tenant:
    somebody = person(None, name="somebody")
    assert somebody.pk
    return Tenant.objects.create(slug="globex", name="Globex", slo_class=SLOClass.objects.get(name="batch"))


def expected(access: Access, role: str | None, status: int, *, anonymous: bool = False) -> int:
    if anonymous:
        return status if access.anonymous else 401
    return status if access.any_account or role in access.roles else 403


def walk(client: Client, role: str | None, *, again, anonymous: bool = False) -> list[object]:
    wrong: list[object] = []
    for (name, method), row in CALLS.items():
        answer = call(client, method, row.path, row.body)
        want = expected(MATRIX[name][method], role, row.status, anonymous=anonymous)
        explained = answer.status_code < 400 or bool(answer.json()["detail"])
        if answer.status_code != want or not explained:
            wrong.append((method, row.path, answer.status_code, want, answer.content[:200]))
        if name == "session" and again is not None:
            again()
    return wrong


@pytest.mark.parametrize("role", [*PEOPLE, None])
def test_who_may_call_it(live_redis, as_role, globex, role):
    cache.clear()
    client = as_role(role)
    user = User.objects.get(username=f"the-{role or 'stranger'}")
    assert walk(client, role, again=lambda: client.force_login(user)) == []


def test_nobody_comes_in_without_signing_in(live_redis, fleet, globex):
    assert walk(Client(), None, again=None, anonymous=True) == []


@pytest.mark.parametrize("how", ["expired", "revoked", "closed account", "made up", "of a closed tenant"])
def test_a_token_that_ended_opens_nothing(live_redis, globex, how):
    role = "tenant_owner" if how == "of a closed tenant" else "admin"
    issuer = person("admin", name="issuer")
    row, raw = issue_token(name="old", role=role, scopes=ALL_SCOPES, by=ADMIN, issuer=issuer,
                           tenant=globex if role == "tenant_owner" else None)  # fmt: skip
    match how:
        case "expired":
            MachineToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        case "revoked":
            revoke_token(token=row, by=ADMIN)
        case "closed account":
            User.objects.filter(pk=issuer.pk).update(is_active=False)
        case "of a closed tenant":
            Tenant.objects.filter(pk=globex.pk).update(active=False)
        case "made up":
            raw = "ldm_" + "A" * 43
    client = Client(headers={"authorization": f"Bearer {raw}"})
    for (name, method), call_ in CALLS.items():
        if name == "session":
            continue
        answer = call(client, method, call_.path, call_.body)
        assert (name, method, answer.status_code) == (name, method, 401)


def test_a_machine_needs_the_scope_and_never_acts_as_a_person(live_redis, globex):
    _, raw = issue_token(name="reader", role="admin", scopes=[scopes.READ], by=ADMIN, issuer=None)
    client = Client(headers={"authorization": f"Bearer {raw}"})
    wrong = []
    for (name, method), row in CALLS.items():
        if name == "session":
            continue
        access = MATRIX[name][method]
        allowed = access.scope == scopes.READ
        answer = call(client, method, row.path, row.body)
        want = row.status if allowed else 403
        if answer.status_code != want:
            wrong.append((name, method, answer.status_code, want))
    assert wrong == []


def owner_of(tenant: Tenant) -> Client:
    user = person(None, name=f"owner-of-{tenant.slug}")
    Membership.objects.create(user=user, role=Membership.Role.TENANT_OWNER, tenant=tenant)
    client = Client()
    client.force_login(user)
    return client


def test_another_tenants_things_do_not_exist_for_an_owner(live_redis, globex):
    """Case 39: nothing of tenant acme is to be had for the owner of globex."""
    client = owner_of(globex)
    leaks = []
    for (name, method), row in CALLS.items():
        if name == "session":
            continue
        access = MATRIX[name][method]
        answer = call(client, method, row.path, row.body)
        may = access.any_account or "tenant_owner" in access.roles
        want = {404} if row.tenant and may else {row.status} if may else {403}
        if row.tenant and may and method != "get":
            want |= {400}  # The body is judged before the path: it says nothing of the tenant.
        if answer.status_code not in want or b"acme" in answer.content.replace(row.path.encode(), b""):
            leaks.append((name, method, answer.status_code, want, answer.content[:200]))
    assert leaks == []


def test_a_write_without_a_csrf_token_changes_nothing(live_redis, as_role, globex):
    """Case 41."""
    cache.clear()
    client = as_role("admin")
    client.handler.enforce_csrf_checks = True
    for (name, method), row in CALLS.items():
        if method == "get":
            continue
        answer = call(client, method, row.path, row.body)
        assert (name, method, answer.status_code) == (name, method, 403)
        assert "CSRF" in answer.json()["detail"]


def test_a_closed_account_is_nobody(as_role, fleet):
    client = as_role("admin")
    User.objects.update(is_active=False)
    assert client.get("/api/v1/me").status_code == 401


def test_a_viewer_is_told_which_role_it_takes(as_role):
    answer = call(as_role("viewer"), "post", "instances/main-1/drain", {})
    assert answer.json()["detail"] == "This needs the role operator or admin; your role is viewer."
