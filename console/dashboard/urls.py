"""Every path that is not the API's, the admin's or a file's is the page's own."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, re_path

from console.dashboard.views import shell

OTHERS = r"^(?!api/|ws/|admin/|static/|v1/|healthz$|readyz$|metrics|accounts/)"

urlpatterns: list[URLPattern | URLResolver] = [re_path(OTHERS, shell, name="shell")]
