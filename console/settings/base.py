"""What every profile shares. Import a profile (development, test, production), never this."""

from __future__ import annotations

from pathlib import Path

from csp.constants import NONCE

from console.settings import env
from console.settings.broker import broker_tls, broker_transport_options, broker_url

BASE_DIR = Path(__file__).resolve().parent.parent.parent
STATE_DIR = env.state_directory(BASE_DIR)
RUN_DIR = env.run_directory(STATE_DIR)

SECRET_KEY = env.secret_key(STATE_DIR)
# What the console shows gateways when it asks them directly; both derive it, nobody configures it.
INTERNAL_TOKEN = env.derived_token(SECRET_KEY, "console-to-gateway")
# Agents and gateways know each other by it; only its keys ever reach a wire.
LINK_SECRET = env.text("LLUMDECK_LINK_SECRET") or env.derived_token(SECRET_KEY, "links")
DEBUG = False
ALLOWED_HOSTS = env.words("LLUMDECK_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("LLUMDECK_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.sites",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "axes",
    "csp",
    "channels",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "controlplane.records",
    "controlplane.fleet",
    "controlplane.tenancy",
    "controlplane.rebalancing",
    "controlplane.alerts",
    "console.accounts",
    "console.api",
    "console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.database(STATE_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Only Argon2id makes new hashes; older ones are made anew when their person signs in.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
SITE_ID = 1

# Guessing: so many wrong passwords or codes for a name from one address, then a pause.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_NEVER_LOCKOUT_GET = True
AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True

# Signing in elsewhere, by an OpenID Connect issuer; off where none is set.
OIDC_ISSUER = env.text("LLUMDECK_OIDC_ISSUER")
OIDC_NAME = env.text("LLUMDECK_OIDC_NAME", "Single sign-on")
OIDC_PROVIDER_ID = "oidc"
OIDC_ROLE_CLAIM = env.text("LLUMDECK_OIDC_ROLE_CLAIM", "groups")
OIDC_ROLES = env.words("LLUMDECK_OIDC_ROLES")
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": OIDC_PROVIDER_ID,
                "name": OIDC_NAME,
                "client_id": env.text("LLUMDECK_OIDC_CLIENT_ID"),
                "secret": env.text("LLUMDECK_OIDC_CLIENT_SECRET"),
                "settings": {"server_url": OIDC_ISSUER},
            }
        ]
        if OIDC_ISSUER
        else [],
    }
}
SOCIALACCOUNT_ADAPTER = "console.accounts.adapters.SocialAdapter"
ACCOUNT_ADAPTER = "console.accounts.adapters.AccountAdapter"
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_VERIFICATION = "none"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_TOLERANCE = 1

LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = STATE_DIR / "static"
# The page as built by `npm run build`, served under static/app/ with hashed names.
FRONTEND_DIST = BASE_DIR / "frontend" / "dist"
STATICFILES_DIRS: list[tuple[str, Path]] = [("app", FRONTEND_DIST)] if FRONTEND_DIST.is_dir() else []
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SAMESITE = "Lax"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 2**20
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Everything from our own files; styles that scripts make carry the page's nonce.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "style-src": ["'self'", NONCE],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["console.api.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "console.api.problems.handler",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Llumdeck admin API",
    "DESCRIPTION": "Everything an operator can do with the fleet. See docs/api.md.",
    "VERSION": "1",
    "OAS_VERSION": "3.0.3",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "DISABLE_ERRORS_AND_WARNINGS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "RoleEnum": "controlplane.tenancy.models.Membership.Role",
        "FleetRoleEnum": ["viewer", "operator", "admin"],
        "CandidateRoleEnum": ["chosen", "candidate", "source", "dropped"],
        "InstanceStateEnum": "controlplane.fleet.models.Instance.State",
        "MigrationStateEnum": "controlplane.rebalancing.models.RequestMigration.State",
        "WhatIfStateEnum": "controlplane.rebalancing.what_if_models.WhatIfJob.State",
        "SeverityEnum": "controlplane.alerts.models.AlertRule.Severity",
        "AlertKindEnum": "controlplane.alerts.models.KIND_CHOICES",
        "AlertStateEnum": "controlplane.alerts.models.Alert.State",
        "DeliveryStateEnum": "controlplane.alerts.models.Delivery.State",
        "EngineEnum": "controlplane.fleet.models.Pool.Engine",
        "OperationStateEnum": "controlplane.records.models.Operation.State",
    },
}

REDIS_URL = env.redis_url(STATE_DIR)
REDIS_EMBEDDED = not env.text("REDIS_URL")
REDIS_PREFIX = env.text("LLUMDECK_REDIS_PREFIX", "llumdeck:")
REDIS_TIMEOUT_S = 2.0

# Live frames leave by one Redis subscription per process; groups across processes are not used.
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

RAY_ADDRESS = env.text("RAY_ADDRESS")
env.wait_for_ray()
# Where agents listen; ``auto``: at their Ray node's own address, for a cluster of several machines.
AGENT_HOST = env.text("LLUMDECK_AGENT_HOST", "127.0.0.1")
# For tests of what goes wrong: rules as in engine_agents/failpoints.py, handed to every agent.
FAILPOINTS = env.text("LLUMDECK_FAILPOINTS")

# OpenTelemetry: where spans go by OTLP over HTTP, as http://collector:4318; empty: nowhere.
OTLP_ENDPOINT = env.text("LLUMDECK_OTLP_ENDPOINT")

# Webhooks go to public addresses only, but for these networks (CIDR).
WEBHOOK_NETWORKS = env.networks("LLUMDECK_WEBHOOK_NETWORKS")
WEBHOOK_HTTPS_ONLY = env.boolean("LLUMDECK_WEBHOOK_HTTPS_ONLY", True)

TICK_INTERVAL_MS = env.integer("LLUMDECK_TICK_INTERVAL_MS", 200, low=50, high=10_000)
LEASE_TTL_MS = env.integer("LLUMDECK_LEASE_TTL_MS", 5_000, low=500, high=60_000)
COMMAND_TIMEOUT_S = env.integer("LLUMDECK_COMMAND_TIMEOUT_S", 1, low=1, high=60)
STATUS_STALE_S = env.integer("LLUMDECK_STATUS_STALE_S", 3, low=1, high=300)
STATUS_DEAD_S = env.integer("LLUMDECK_STATUS_DEAD_S", 10, low=2, high=3_600)
AGENT_START_TIMEOUT_S = env.integer("LLUMDECK_AGENT_START_TIMEOUT_S", 300, low=10, high=3_600)
WHAT_IF_TIMEOUT_S = env.integer("LLUMDECK_WHAT_IF_TIMEOUT_S", 120, low=5, high=3_600)
WHAT_IF_MAX_TRACES = env.integer("LLUMDECK_WHAT_IF_MAX_TRACES", 20, low=1, high=1_000)
RETENTION_DAYS = env.integer("LLUMDECK_RETENTION_DAYS", 14, low=1, high=3_650)
USAGE_RETENTION_DAYS = env.integer("LLUMDECK_USAGE_RETENTION_DAYS", 400, low=1, high=3_650)
# Whose X-Forwarded-For a gateway believes.
TRUSTED_PROXIES = env.networks("LLUMDECK_TRUSTED_PROXIES", "127.0.0.0/8,::1")

CELERY_BROKER_URL = broker_url(REDIS_URL)
CELERY_BROKER_USE_SSL = broker_tls(REDIS_URL)
CELERY_BROKER_TRANSPORT_OPTIONS = broker_transport_options(REDIS_PREFIX)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_DEFAULT_QUEUE = "jobs"
CELERY_TASK_ROUTES = {
    "controlplane.rebalancing.tasks.run_rebalancing_loop": {"queue": "loop"},
    "controlplane.rebalancing.tasks.run_what_if": {"queue": "whatif"},
}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Ray writes to the real standard output and error.
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "rebalancing-loop": {
        "task": "controlplane.rebalancing.tasks.run_rebalancing_loop",
        "schedule": 5.0,
        "options": {"expires": 4.0, "queue": "loop"},
    },
    "reconcile-fleet": {
        "task": "controlplane.fleet.tasks.reconcile_fleet",
        "schedule": 2.0,
        "options": {"expires": 1.9, "queue": "jobs"},
    },
    "fleet-retention": {
        "task": "controlplane.fleet.tasks.delete_expired_fleet_history",
        "schedule": 3600.0,
        "options": {"expires": 3000.0, "queue": "jobs"},
    },
    "follow-gateways": {
        "task": "controlplane.fleet.tasks.follow_gateways",
        "schedule": 5.0,
        "options": {"expires": 4.0, "queue": "jobs"},
    },
    "lost-migrations": {
        "task": "controlplane.rebalancing.tasks.close_lost_migrations",
        "schedule": 30.0,
        "options": {"expires": 25.0, "queue": "jobs"},
    },
    "temporary-policies": {
        "task": "controlplane.rebalancing.tasks.end_temporary_policies",
        "schedule": 5.0,
        "options": {"expires": 4.0, "queue": "jobs"},
    },
    "history": {
        "task": "controlplane.rebalancing.tasks.record_history",
        "schedule": 10.0,
        "options": {"expires": 9.0, "queue": "jobs"},
    },
    "evaluate-alerts": {
        "task": "console.tasks.evaluate_alerts",
        "schedule": 10.0,
        "options": {"expires": 9.0, "queue": "jobs"},
    },
    "sweep-webhooks": {
        "task": "controlplane.alerts.tasks.sweep_webhooks",
        "schedule": 30.0,
        "options": {"expires": 25.0, "queue": "jobs"},
    },
    "housekeeping": {
        "task": "console.tasks.forget_what_is_old",
        "schedule": 3600.0,
        "options": {"expires": 3000.0, "queue": "jobs"},
    },
    "retention": {
        "task": "controlplane.rebalancing.tasks.delete_expired_history",
        "schedule": 3600.0,
        "options": {"expires": 3000.0, "queue": "jobs"},
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    # One line per task that beat sends every five seconds would bury everything else.
    "loggers": {
        name: {"level": env.text("LLUMDECK_CELERY_LOG_LEVEL", "WARNING")}
        for name in ("celery.app.trace", "celery.worker.strategy", "celery.beat")
    }
    # It warns whenever it is connected outside the main thread, as here it always is.
    | {"ray._private.worker": {"level": "ERROR"}}
    | {"axes": {"level": "WARNING"}},
    "root": {"handlers": ["stderr"], "level": env.text("LLUMDECK_LOG_LEVEL", "INFO")},
}
