"""The page shell: one HTML file, built by the front end, for every route of the page."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

NONCE_MARK = "__CSP_NONCE__"
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
        page = (settings.FRONTEND_DIST / "index.html").read_text()
    except OSError:
        return HttpResponse(NOT_BUILT, status=503, content_type="text/plain; charset=utf-8")
    # Everything comes from our own files; the theme's style element shows the nonce of its page.
    return HttpResponse(page.replace(NONCE_MARK, str(request.csp_nonce)))  # type: ignore[attr-defined]
