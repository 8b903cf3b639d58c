"""Every endpoint of ``/api/v1``, in one list. Each name has a row in ``console.api.access``."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from console.api import converters
from console.api.problems import not_found
from console.api.views import accounts, audit, health, instances, me, migrations, operations, schema, session
from console.api.views.tenants import classes, keys, limits, members, tenants, usage

converters.register()

SIGNING_IN = [
    path("session", session.Session.as_view(), name="session"),
    path("session/options", session.SessionOptions.as_view(), name="session-options"),
    path("me", session.Me.as_view(), name="me"),
    path("me/password", me.MyPassword.as_view(), name="me-password"),
    path("me/totp", me.MyTotp.as_view(), name="me-totp"),
    path("me/totp/confirm", me.MyTotpConfirm.as_view(), name="me-totp-confirm"),
    path("me/recovery-codes", me.MyRecoveryCodes.as_view(), name="me-recovery-codes"),
    path("people", accounts.People.as_view(), name="people"),
    path("people/<name:username>", accounts.Person.as_view(), name="person"),
    path("tokens", accounts.Tokens.as_view(), name="tokens"),
    path("tokens/<number:token_id>/revoke", accounts.TokenRevoke.as_view(), name="token-revoke"),
]

FLEET = [
    path("health", health.Health.as_view(), name="health"),
    path("instances", instances.Instances.as_view(), name="instances"),
    path("instances/<slug:instance_id>", instances.InstanceDetail.as_view(), name="instance"),
    path(
        "instances/<slug:instance_id>/requests",
        instances.InstanceRequests.as_view(),
        name="instance-requests",
    ),
    path("instances/<slug:instance_id>/drain", instances.InstanceDrain.as_view(), name="instance-drain"),
    path(
        "instances/<slug:instance_id>/undrain", instances.InstanceUndrain.as_view(), name="instance-undrain"
    ),
    path("operations", operations.Operations.as_view(), name="operations"),
    path("operations/<name:operation_id>", operations.OperationDetail.as_view(), name="operation"),
]

SCHEDULING = [
    path("migrations", migrations.Migrations.as_view(), name="migrations"),
    path("migrations/<name:migration_id>", migrations.MigrationDetail.as_view(), name="migration"),
    path("rounds", migrations.Rounds.as_view(), name="rounds"),
    path("rounds/<number:round_id>", migrations.RoundDetail.as_view(), name="round"),
    path("rounds/<number:round_id>/explain", migrations.RoundExplain.as_view(), name="round-explain"),
]

TENANTS = [
    path("tenants", tenants.Tenants.as_view(), name="tenants"),
    path("tenants/<slug:slug>", tenants.TenantDetail.as_view(), name="tenant"),
    path("tenants/<slug:slug>/class", tenants.TenantSetClass.as_view(), name="tenant-class"),
    path("tenants/<slug:slug>/close", tenants.TenantClose.as_view(), name="tenant-close"),
    path("tenants/<slug:slug>/reopen", tenants.TenantReopen.as_view(), name="tenant-reopen"),
    path("tenants/<slug:slug>/keys", keys.Keys.as_view(), name="tenant-keys"),
    path("tenants/<slug:slug>/keys/<number:key_id>", keys.Key.as_view(), name="tenant-key"),
    path("tenants/<slug:slug>/keys/<number:key_id>/rotate", keys.KeyRotate.as_view(), name="key-rotate"),
    path("tenants/<slug:slug>/keys/<number:key_id>/revoke", keys.KeyRevoke.as_view(), name="key-revoke"),
    path("tenants/<slug:slug>/members", members.Members.as_view(), name="tenant-members"),
    path("tenants/<slug:slug>/members/<name:username>", members.Member.as_view(), name="tenant-member"),
    path("tenants/<slug:slug>/limits", limits.TenantLimits.as_view(), name="tenant-limits"),
    path("tenants/<slug:slug>/limits/<number:limit_id>", limits.TenantLimit.as_view(), name="tenant-limit"),
    path("tenants/<slug:slug>/boosts", limits.TenantBoosts.as_view(), name="tenant-boosts"),
    path("limits", limits.AllLimits.as_view(), name="limits"),
    path("boosts", limits.Boosts.as_view(), name="boosts"),
    path("boosts/<number:boost_id>/end", limits.BoostEnd.as_view(), name="boost-end"),
    path("usage", usage.Usage.as_view(), name="usage"),
    path("attainment", usage.Attainment.as_view(), name="attainment"),
    path("slo-classes", classes.Classes.as_view(), name="slo-classes"),
    path("slo-classes/<slug:name>", classes.Class.as_view(), name="slo-class"),
]

RECORDS = [
    path("audit", audit.Audit.as_view(), name="audit"),
    path("schema", schema.Schema.as_view(), name="schema"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    *SIGNING_IN,
    *FLEET,
    *SCHEDULING,
    *TENANTS,
    *RECORDS,
    re_path(r"^.*$", not_found),
]
