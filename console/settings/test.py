"""For the tests: fast hashing, no network by default, its own state directory."""

import tempfile
from pathlib import Path

from console.settings import env
from console.settings.base import *  # noqa: F403

SECRET_KEY = "tests-only-" + "x" * 50
STATE_DIR = Path(tempfile.gettempdir()) / "llumdeck-tests"
STATIC_ROOT = STATE_DIR / "static"
# The static files' middleware warns of a folder that is not there, and warnings are errors.
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
DATABASES = {"default": env.parse_database_url(env.text("DATABASE_URL", "sqlite://"))}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CELERY_TASK_ALWAYS_EAGER = True
WHITENOISE_AUTOREFRESH = True
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
