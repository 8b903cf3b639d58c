"""Every endpoint × who calls. A new endpoint without a row here fails."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import get_resolver

from console.api import urls
from controlplane.rebalancing.models import RebalanceRound
from tests.controlplane import builders

LOOKING = {"viewer", "operator", "admin"}
ACTING = {"operator", "admin"}
ANYBODY = {"anonymous", "stranger", "tenant_owner", *LOOKING}
SIGNED_IN = ANYBODY - {"anonymous"}
MOVE = {"request_id": "r-1", "source": "main-1", "destination": "main-2"}

# (name of the route, path, method, body, who may, status for who may)
MATRIX = [
    ("session", "session", "post", {"username": "x", "password": "y"}, ANYBODY, 400),
    ("session", "session", "delete", None, ANYBODY, 204),
    ("me", "me", "get", None, SIGNED_IN, 200),
    ("health", "health", "get", None, LOOKING, 200),
    ("instances", "instances", "get", None, LOOKING, 200),
    ("instance", "instances/main-1", "get", None, LOOKING, 200),
    ("instance-requests", "instances/main-1/requests", "get", None, LOOKING, 200),
    ("instance-drain", "instances/main-1/drain", "post", {}, ACTING, 202),
    ("instance-undrain", "instances/main-1/undrain", "post", {}, ACTING, 202),
    ("migrations", "migrations", "get", None, LOOKING, 200),
    ("migrations", "migrations", "post", MOVE, ACTING, 202),
    ("migration", "migrations/m-1", "get", None, LOOKING, 404),
    ("rounds", "rounds", "get", None, LOOKING, 200),
    ("round", "rounds/1", "get", None, LOOKING, 404),
    ("tenants", "tenants", "get", None, LOOKING, 200),
    ("tenant", "tenants/acme", "get", None, LOOKING, 200),
    ("tenant-class", "tenants/acme/class", "post", {"slo_class": "batch"}, ACTING, 200),
    ("slo-classes", "slo-classes", "get", None, LOOKING, 200),
    ("audit", "audit", "get", None, LOOKING, 200),
]
METHODS = ("get", "post", "put", "patch", "delete")


def call(client: Client, method: str, path: str, body: object):
    return getattr(client, method)(f"/api/v1/{path}", data=body, content_type="application/json")


def test_every_endpoint_and_method_has_a_row():
    offered = set()
    for route in urls.urlpatterns:
        view = getattr(route.callback, "view_class", None)
        if view is not None:
            offered |= {(route.name, method) for method in METHODS if hasattr(view, method)}
    assert offered == {(name, method) for name, _, method, *_ in MATRIX}
    assert get_resolver("console.api.urls").url_patterns[-1].callback.__name__ == "not_found"


@pytest.mark.parametrize("role", sorted(ANYBODY))
def test_who_may_call_it(live_redis, as_role, role):
    cache.clear()
    if role == "anonymous":
        client = Client()
    else:
        client = as_role(None if role == "stranger" else role)
    session = dict(client.cookies)
    wrong = []
    for _, path, method, body, allowed, status in MATRIX:
        client.cookies.load(session)
        answer = call(client, method, path, body)
        expected = status if role in allowed else (401 if role == "anonymous" else 403)
        explained = answer.status_code < 400 or bool(answer.json()["detail"])
        if answer.status_code != expected or not explained:
            wrong.append((method, path, answer.status_code, expected))
        if path == "session" and method == "delete" and role != "anonymous":
            client.force_login(User.objects.get(username=f"the-{role}"))
            session = dict(client.cookies)
    assert wrong == []


def test_a_write_without_a_csrf_token_changes_nothing(live_redis, as_role):
    cache.clear()
    client = as_role("admin")
    client.handler.enforce_csrf_checks = True
    for _, path, method, body, *_ in MATRIX:
        if method == "get":
            continue
        answer = call(client, method, path, body)
        assert (path, answer.status_code) == (path, 403)
        assert "CSRF" in answer.json()["detail"]


def test_a_closed_account_is_nobody(as_role, fleet):
    client = as_role("admin")
    User.objects.update(is_active=False)
    assert client.get("/api/v1/me").status_code == 401


def test_a_viewer_is_told_which_role_it_takes(as_role):
    answer = call(as_role("viewer"), "post", "instances/main-1/drain", {})
    assert answer.json()["detail"] == "This needs the role operator or admin; your role is viewer."


def test_the_details_of_a_round_are_there(as_role, fleet):
    pool = fleet["main-1"].pool
    row = RebalanceRound.objects.create(
        pool=pool, taken_at=builders.NOW, epoch=1, tick=1, snapshot={}, decisions=[], duration_ms=1.0
    )
    assert as_role("viewer").get(f"/api/v1/rounds/{row.pk}").json()["duration_ms"] == 1.0
