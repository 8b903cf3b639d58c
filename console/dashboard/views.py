"""The page shell: one HTML file, built by the front end, for every route of the page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

NOT_BUILT = (
    "The console's pages are not built yet. Run `make setup` (or `npm ci && npm run build` in frontend/), "
    "then load this page again. The API under /api/v1 works meanwhile."
)


@require_safe
@never_cache
@ensure_csrf_cookie
def shell(request: HttpRequest) -> HttpResponse:
    """``index.html``; 503 with what to do while the front end is not built."""
    try:
        page = (settings.FRONTEND_DIST / "index.html").read_bytes()
    except OSError:
        return HttpResponse(NOT_BUILT, status=503, content_type="text/plain; charset=utf-8")
    return HttpResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


# Mantine writes its theme variables into a style element; everything else comes from our own files.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
