"""The environment as seen by the Django side: the only reader of ``os.environ`` there.

Every variable has a plain default for one machine. A bad value raises
``ImproperlyConfigured`` naming the variable, what was found and what would be right.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

SQLITE_BUSY_TIMEOUT_S = 20
"""Waiting for other writers; the rebalancing loop waits far less."""
POSTGRESQL_LIMITS = (
    "-c lock_timeout=10000 -c statement_timeout=60000 -c idle_in_transaction_session_timeout=10000"
)
"""Nobody waits for a lock without end, and who stands still inside a transaction loses it: a leader
that was stopped there would else keep the next one from its epoch."""
SQLITE_PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"


def use_default_profile() -> None:
    """Settle ``DJANGO_SETTINGS_MODULE`` where nobody has: the first act of every entry point."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings.development")


def wait_for_ray() -> None:
    """Let this process wait a day for a Ray head that is away: Ray would end it after a minute."""
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "86400")


def text(name: str, default: str = "") -> str:
    """The variable, or the content of the file named by ``NAME_FILE``, or the default."""
    file_name = os.environ.get(f"{name}_FILE")
    if file_name and name not in os.environ:
        return _read_secret_file(name, Path(file_name))
    return os.environ.get(name, default)


def integer(name: str, default: int, *, low: int, high: int) -> int:
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number ({low} to {high}).") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name}={value} is out of range: {low} to {high}.")
    return value


def boolean(name: str, default: bool) -> bool:
    raw = text(name, "1" if default else "0").strip().lower()
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name}={raw!r} is neither true nor false (use 1 or 0).")


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str, default: str = "") -> list[str]:
    """Comma-separated addresses or networks in CIDR form."""
    found = words(name, default)
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {error}; write networks as 10.0.0.0/8,fd00::/8.") from None
    return found


def state_directory(project_directory: Path) -> Path:
    """Where the embedded database, Redis and generated secrets live; made on first use, for us alone."""
    directory = Path(text("LLUMDECK_STATE_DIR", str(project_directory / ".llumdeck"))).expanduser().resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"LLUMDECK_STATE_DIR={directory} cannot be made ({error.strerror}); name a folder you may write."
        ) from error
    return directory


def secret_key(directory: Path) -> str:
    """``SECRET_KEY`` (or ``SECRET_KEY_FILE``), else one made once and kept in the state directory."""
    return text("SECRET_KEY") or _kept_secret(directory / "secret_key")


def derived_token(secret: str, purpose: str) -> str:
    """The same for everyone who knows the secret, and tells nothing of it."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def database(directory: Path) -> dict[str, Any]:
    """Django's ``DATABASES["default"]`` from ``DATABASE_URL``."""
    url = text("DATABASE_URL") or f"sqlite:///{directory / 'llumdeck.sqlite3'}"
    return parse_database_url(url)


def run_directory(directory: Path) -> Path:
    """Where sockets of a running fleet lie: short, because a socket's path ends at 107 bytes; not made here.

    One per state directory and user, so that every command finds the same.
    """
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"llumdeck-{os.getuid()}-{digest}"


def redis_url(directory: Path) -> str:
    """``REDIS_URL``, else the socket of the embedded server of this state directory."""
    return text("REDIS_URL") or f"unix://{run_directory(directory) / 'redis.sock'}"


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with ``changes``, for the processes it starts."""
    return {**os.environ, **changes}


def parse_database_url(url: str) -> dict[str, Any]:
    """``sqlite:////absolute/file`` or ``postgresql://user:password@host:port/name?sslmode=…``."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(unquote(parts.path.removeprefix("/")) or ":memory:")
    if parts.scheme in {"postgres", "postgresql"}:
        return _postgresql(url)
    raise ImproperlyConfigured(
        f"DATABASE_URL starts with {parts.scheme or 'nothing'!r}; use sqlite:////path/to/file "
        "or postgresql://user:password@host:5432/name."
    )


def _sqlite(name: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            "timeout": SQLITE_BUSY_TIMEOUT_S,
            "transaction_mode": "IMMEDIATE",
            "init_command": SQLITE_PRAGMAS,
        },
    }


def _postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    query: Mapping[str, str] = dict(parse_qsl(parts.query))
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ImproperlyConfigured("DATABASE_URL names no database; end it with /name.")
    options = {key: value for key, value in query.items() if key != "host"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.get("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, "options": POSTGRESQL_LIMITS, **options},
    }


def _read_secret_file(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE={path} cannot be read: {error.strerror}.") from error


def _kept_secret(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="utf-8").strip()
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value := secrets.token_urlsafe(64))
    return value
