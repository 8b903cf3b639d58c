"""Every endpoint of ``/api/v1``, in one list."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path, re_path

from console.api.problems import not_found
from console.api.views import audit, health, instances, migrations, session, tenants

urlpatterns: list[URLPattern | URLResolver] = [
    path("session", session.Session.as_view(), name="session"),
    path("me", session.Me.as_view(), name="me"),
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
    path("migrations", migrations.Migrations.as_view(), name="migrations"),
    path("migrations/<str:migration_id>", migrations.MigrationDetail.as_view(), name="migration"),
    path("rounds", migrations.Rounds.as_view(), name="rounds"),
    path("rounds/<int:round_id>", migrations.RoundDetail.as_view(), name="round"),
    path("tenants", tenants.Tenants.as_view(), name="tenants"),
    path("tenants/<slug:slug>", tenants.TenantDetail.as_view(), name="tenant"),
    path("tenants/<slug:slug>/class", tenants.TenantSetClass.as_view(), name="tenant-class"),
    path("slo-classes", tenants.Classes.as_view(), name="slo-classes"),
    path("audit", audit.Audit.as_view(), name="audit"),
    re_path(r"^.*$", not_found),
]
