"""Every endpoint of ``/api/v1``, in one list. Each name has a row in ``console.api.access``."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from console.api import converters
from console.api.problems import not_found
from console.api.views import (
    accounts,
    alerts,
    audit,
    configuration,
    health,
    histories,
    instances,
    me,
    migrations,
    operations,
    playground,
    policies,
    pools,
    requests,
    schema,
    session,
    what_if,
)
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
    path(
        "instances/<slug:instance_id>/restart", instances.InstanceRestart.as_view(), name="instance-restart"
    ),
    path(
        "instances/<slug:instance_id>/migrate-all",
        instances.InstanceMigrateAll.as_view(),
        name="instance-migrate-all",
    ),
    path("instances/<slug:instance_id>/stop", instances.InstanceStop.as_view(), name="instance-stop"),
    path("instances/<slug:instance_id>/remove", instances.InstanceRemove.as_view(), name="instance-remove"),
    path(
        "instances/<slug:instance_id>/release", instances.InstanceRelease.as_view(), name="instance-release"
    ),
    path(
        "instances/<slug:instance_id>/transitions",
        instances.InstanceTransitions.as_view(),
        name="instance-transitions",
    ),
    path("instances/<slug:instance_id>/log", instances.InstanceLog.as_view(), name="instance-log"),
    path("pools", pools.Pools.as_view(), name="pools"),
    path("pools/<slug:name>", pools.PoolDetail.as_view(), name="pool"),
    path("pools/<slug:name>/scale", pools.PoolScale.as_view(), name="pool-scale"),
    path(
        "pools/<slug:name>/rolling-restart", pools.PoolRollingRestart.as_view(), name="pool-rolling-restart"
    ),
    path("pools/<slug:name>/autoscaling", pools.PoolAutoscaling.as_view(), name="pool-autoscaling"),
    path("pools/<slug:name>/autoscaling/hold", pools.PoolHold.as_view(), name="pool-hold"),
    path(
        "pools/<slug:name>/autoscaling/decisions", pools.PoolScalingDecisions.as_view(), name="pool-decisions"
    ),
    path("pools/<slug:name>/history", histories.PoolHistoryView.as_view(), name="pool-history"),
    path("requests", requests.Requests.as_view(), name="requests"),
    path("requests/<name:request_id>", requests.RequestDetail.as_view(), name="request"),
    path("requests/<name:request_id>/cancel", requests.RequestCancel.as_view(), name="request-cancel"),
    path(
        "requests/<name:request_id>/set-class", requests.RequestSetClass.as_view(), name="request-set-class"
    ),
    path("playground/chat", playground.PlaygroundChat.as_view(), name="playground-chat"),
    path("operations", operations.Operations.as_view(), name="operations"),
    path("operations/<name:operation_id>", operations.OperationDetail.as_view(), name="operation"),
]

SCHEDULING = [
    path("migrations", migrations.Migrations.as_view(), name="migrations"),
    path("migrations/summary", migrations.MigrationSummary.as_view(), name="migration-summary"),
    path("migrations/<name:migration_id>", migrations.MigrationDetail.as_view(), name="migration"),
    path("rounds", migrations.Rounds.as_view(), name="rounds"),
    path("rounds/<number:round_id>", migrations.RoundDetail.as_view(), name="round"),
    path("rounds/<number:round_id>/explain", migrations.RoundExplain.as_view(), name="round-explain"),
    path("policies", policies.Policies.as_view(), name="policies"),
    path("policies/schema", policies.PolicySchema.as_view(), name="policy-schema"),
    path("policies/validate", policies.PolicyValidate.as_view(), name="policy-validate"),
    path("policies/preview", policies.PolicyPreview.as_view(), name="policy-preview"),
    path("policies/rollback", policies.PolicyRollback.as_view(), name="policy-rollback"),
    path("policies/<number:policy_id>", policies.Policy.as_view(), name="policy"),
    path("policies/<number:policy_id>/activate", policies.PolicyActivate.as_view(), name="policy-activate"),
    path("policies/<number:policy_id>/diff", policies.PolicyDiff.as_view(), name="policy-diff"),
    path("policies/<number:policy_id>/yaml", policies.PolicyYaml.as_view(), name="policy-yaml"),
    path("what-if/traces", what_if.Traces.as_view(), name="traces"),
    path("what-if/traces/<number:trace_id>", what_if.Trace.as_view(), name="trace"),
    path("what-if/jobs", what_if.WhatIfs.as_view(), name="what-ifs"),
    path("what-if/jobs/<number:job_id>", what_if.WhatIf.as_view(), name="what-if"),
    path("what-if/jobs/<number:job_id>/cancel", what_if.WhatIfCancel.as_view(), name="what-if-cancel"),
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
    path("tenants/<slug:slug>/limits/use", limits.TenantLimitUse.as_view(), name="tenant-limit-use"),
    path("configuration", configuration.Configuration.as_view(), name="configuration"),
    path("limits", limits.AllLimits.as_view(), name="limits"),
    path("boosts", limits.Boosts.as_view(), name="boosts"),
    path("boosts/<number:boost_id>/end", limits.BoostEnd.as_view(), name="boost-end"),
    path("usage", usage.Usage.as_view(), name="usage"),
    path("attainment", usage.Attainment.as_view(), name="attainment"),
    path("slo-classes", classes.Classes.as_view(), name="slo-classes"),
    path("slo-classes/<slug:name>/history", histories.ClassHistoryView.as_view(), name="slo-class-history"),
    path("slo-classes/<slug:name>", classes.Class.as_view(), name="slo-class"),
]

ALERTS = [
    path("alerts", alerts.Alerts.as_view(), name="alerts"),
    path("alerts/rules", alerts.Rules.as_view(), name="alert-rules"),
    path("alerts/rules/<name:name>", alerts.Rule.as_view(), name="alert-rule"),
    path("alerts/kinds", alerts.RuleKinds.as_view(), name="alert-kinds"),
    path("alerts/silences", alerts.Silences.as_view(), name="silences"),
    path("alerts/silences/<number:silence_id>/end", alerts.SilenceEnd.as_view(), name="silence-end"),
    path("alerts/<number:alert_id>", alerts.AlertDetail.as_view(), name="alert"),
    path("alerts/<number:alert_id>/ack", alerts.AlertAcknowledge.as_view(), name="alert-ack"),
    path("alerts/<number:alert_id>/silence", alerts.AlertSilence.as_view(), name="alert-silence"),
    path("webhooks", alerts.Webhooks.as_view(), name="webhooks"),
    path("webhooks/<number:webhook_id>", alerts.WebhookDetail.as_view(), name="webhook"),
    path("webhooks/<number:webhook_id>/rotate", alerts.WebhookRotate.as_view(), name="webhook-rotate"),
    path("webhooks/<number:webhook_id>/test", alerts.WebhookTest.as_view(), name="webhook-test"),
    path(
        "webhooks/<number:webhook_id>/deliveries",
        alerts.WebhookDeliveries.as_view(),
        name="webhook-deliveries",
    ),
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
    *ALERTS,
    *RECORDS,
    re_path(r"^[\s\S]*$", not_found),
]
