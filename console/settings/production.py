"""Behind TLS, with a managed database and Redis; refuses what is only fit for one machine."""

from django.core.exceptions import ImproperlyConfigured

from console.settings import env
from console.settings.base import *  # noqa: F403
from console.settings.base import FAILPOINTS, REDIS_EMBEDDED

MIN_SECRET_KEY_LENGTH = 50


def refuse_unfit_settings(
    *, debug: bool, secret_key: str, redis_embedded: bool, failpoints: str = ""
) -> None:
    """Raise ``ImproperlyConfigured`` for a debug flag, failpoints, no real key, or the embedded Redis."""
    if debug:
        raise ImproperlyConfigured("LLUMDECK_DEBUG is on; the production profile refuses it. Unset it.")
    if failpoints:
        raise ImproperlyConfigured(
            "LLUMDECK_FAILPOINTS is set; the production profile refuses to break things on purpose. Unset it."
        )
    if len(secret_key) < MIN_SECRET_KEY_LENGTH:
        raise ImproperlyConfigured(
            f"SECRET_KEY (or SECRET_KEY_FILE) must be set to at least {MIN_SECRET_KEY_LENGTH} random "
            "characters in the production profile."
        )
    if redis_embedded:
        raise ImproperlyConfigured(
            "REDIS_URL is not set; the embedded Redis is refused in the production profile "
            "because its version no longer gets security fixes."
        )


refuse_unfit_settings(
    debug=env.boolean("LLUMDECK_DEBUG", False),
    secret_key=env.text("SECRET_KEY"),
    redis_embedded=REDIS_EMBEDDED,
    failpoints=FAILPOINTS,
)

DEBUG = False
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_SSL_REDIRECT = env.boolean("LLUMDECK_SSL_REDIRECT", True)
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
