"""Every route of the console, in one list."""

from django.contrib import admin
from django.urls import include, path

from console import health, metrics

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/", admin.site.urls),
    path("", include((metrics.urlpatterns, "metrics"))),
    path("accounts/", include("console.accounts.urls")),
    path("api/v1/", include("console.api.urls")),
    path("", include("console.dashboard.urls")),
]
