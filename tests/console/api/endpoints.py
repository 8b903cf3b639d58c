"""One call of every endpoint and method: path, body, and the status for who may. Used by the walks."""

from __future__ import annotations

from typing import Any, NamedTuple


class Call(NamedTuple):
    path: str
    body: Any = None
    status: int = 200
    """For who may; what it meets (a 404 or 409 of the empty fleet) counts as let in."""
    tenant: bool = False
    """The path names tenant ``acme``: it does not exist for another tenant's owner."""


REASON = {"change_reason": "a test"}
MOVE = {"request_id": "r-1", "source": "main-1", "destination": "main-2"}
TOKEN = {"name": "ci", "role": "viewer", "scopes": ["read"]}

CALLS: dict[tuple[str, str], Call] = {
    ("session", "post"): Call("session", {"username": "x", "password": "y"}, 400),
    ("session", "delete"): Call("session", None, 204),
    ("session-options", "get"): Call("session/options"),
    ("me", "get"): Call("me"),
    ("me-password", "post"): Call("me/password", {"old_password": "no", "new_password": "no"}, 400),
    ("me-totp", "get"): Call("me/totp"),
    ("me-totp", "post"): Call("me/totp", {}),
    ("me-totp", "delete"): Call("me/totp", {"code": "000000"}, 409),
    ("me-totp-confirm", "post"): Call("me/totp/confirm", {"code": "000000"}, 400),
    ("me-recovery-codes", "post"): Call("me/recovery-codes", {"code": "000000"}, 400),
    ("people", "get"): Call("people"),
    ("people", "post"): Call("people", {"username": "", "role": "viewer"}, 400),
    ("person", "get"): Call("people/somebody"),
    ("person", "patch"): Call("people/somebody", {"active": True}, 428),
    ("tokens", "get"): Call("tokens"),
    ("tokens", "post"): Call("tokens", {**TOKEN, "scopes": []}, 400),
    ("token-revoke", "post"): Call("tokens/999999/revoke", {}, 404),
    ("health", "get"): Call("health"),
    ("instances", "get"): Call("instances"),
    ("instance", "get"): Call("instances/main-1"),
    ("instance-requests", "get"): Call("instances/main-1/requests"),
    ("instance-drain", "post"): Call("instances/main-1/drain", REASON, 202),
    ("instance-undrain", "post"): Call("instances/main-1/undrain", REASON, 202),
    ("operations", "get"): Call("operations"),
    ("operation", "get"): Call("operations/op-1", None, 404),
    ("migrations", "get"): Call("migrations"),
    ("migrations", "post"): Call("migrations", MOVE, 202),
    ("migration", "get"): Call("migrations/m-1", None, 404),
    ("rounds", "get"): Call("rounds"),
    ("round", "get"): Call("rounds/1", None, 404),
    ("round-explain", "get"): Call("rounds/1/explain", None, 404),
    ("tenants", "get"): Call("tenants"),
    ("tenants", "post"): Call("tenants", {"slug": "Not a slug"}, 400),
    ("tenant", "get"): Call("tenants/acme", tenant=True),
    ("tenant", "patch"): Call("tenants/acme", {"name": "Acme"}, 428, tenant=True),
    ("tenant-class", "post"): Call("tenants/acme/class", {"slo_class": "batch"}, tenant=True),
    ("tenant-close", "post"): Call("tenants/acme/close", {"wrong": 1}, 400, tenant=True),
    ("tenant-reopen", "post"): Call("tenants/acme/reopen", REASON, 409, tenant=True),
    ("tenant-keys", "get"): Call("tenants/acme/keys", tenant=True),
    ("tenant-keys", "post"): Call("tenants/acme/keys", {"name": "one"}, 201, tenant=True),
    ("tenant-key", "get"): Call("tenants/acme/keys/999999", None, 404, tenant=True),
    ("tenant-key", "patch"): Call("tenants/acme/keys/999999", {"name": "x"}, 404, tenant=True),
    ("key-rotate", "post"): Call("tenants/acme/keys/999999/rotate", {}, 404, tenant=True),
    ("key-revoke", "post"): Call("tenants/acme/keys/999999/revoke", {}, 404, tenant=True),
    ("tenant-members", "get"): Call("tenants/acme/members", tenant=True),
    ("tenant-members", "post"): Call("tenants/acme/members", {"username": "nobody"}, 400, tenant=True),
    ("tenant-member", "delete"): Call("tenants/acme/members/nobody", {}, 404, tenant=True),
    ("tenant-limits", "get"): Call("tenants/acme/limits", tenant=True),
    ("tenant-limits", "post"): Call("tenants/acme/limits", {"key": 999999}, 400, tenant=True),
    ("tenant-limit", "delete"): Call("tenants/acme/limits/999999", {}, 404, tenant=True),
    ("tenant-boosts", "post"): Call("tenants/acme/boosts", {"slo_class": "batch"}, 400, tenant=True),
    ("limits", "get"): Call("limits"),
    ("limits", "post"): Call("limits", {"requests_per_minute": 5}, 400),
    ("boosts", "get"): Call("boosts"),
    ("boost-end", "post"): Call("boosts/999999/end", {}, 404),
    ("usage", "get"): Call("usage"),
    ("attainment", "get"): Call("attainment"),
    ("slo-classes", "get"): Call("slo-classes"),
    ("slo-classes", "post"): Call("slo-classes", {"name": "Not a name", "rank": 9}, 400),
    ("slo-class", "get"): Call("slo-classes/batch"),
    ("slo-class", "patch"): Call("slo-classes/batch", {"rank": 9}, 428),
    ("slo-class", "delete"): Call("slo-classes/none-such", {}, 404),
    ("audit", "get"): Call("audit"),
    ("schema", "get"): Call("schema"),
}
