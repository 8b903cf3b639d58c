"""The production profile, headers, cookies; and that no key material leaves by any door (cases 42 and 48)."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from console.accounts import scopes
from console.accounts.principals import Principal
from console.accounts.services import issue_token
from console.api.models import StoredAnswer
from controlplane.records.models import AuditEntry
from tests.console.api.endpoints import CALLS
from tests.console.conftest import PASSWORD, person

ROOT = Path(__file__).resolve().parents[2]
FIT = {
    "SECRET_KEY": "a-Key_0fMany.different!characters#that%nobody^guesses&ever*(1234)",
    "REDIS_URL": "rediss://r:6379",
}


def production(tmp_path, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    given = {
        name: value for name, value in os.environ.items() if not name.startswith(("LLUMDECK_", "DATABASE_"))
    }
    given |= {
        **FIT,
        "LLUMDECK_STATE_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "console.settings.production",
    }
    return subprocess.run(
        [sys.executable, *command],
        env=given | changes,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_production_profile_passes_djangos_own_deployment_checks(tmp_path):
    words = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    done = production(tmp_path, *words, LLUMDECK_ALLOWED_HOSTS="a.example")
    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


UNFIT = (
    ({"LLUMDECK_DEBUG": "1"}, "LLUMDECK_DEBUG is on"),
    ({"LLUMDECK_FAILPOINTS": "source.commit:kill"}, "LLUMDECK_FAILPOINTS is set"),
    ({"SECRET_KEY": ""}, "SECRET_KEY"),
    ({"SECRET_KEY": "short"}, "SECRET_KEY"),
    ({"REDIS_URL": ""}, "REDIS_URL is not set"),
    ({"LLUMDECK_WEBHOOK_NETWORKS": "everywhere"}, "LLUMDECK_WEBHOOK_NETWORKS"),
)
TRY_EACH = """
import importlib, json, os, sys
for changes, _ in json.loads(sys.argv[1]):
    before = dict(os.environ)
    os.environ.update(changes)
    for name in [name for name in sys.modules if name.startswith("console.settings")]:
        del sys.modules[name]
    try:
        importlib.import_module("console.settings.production")
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
    else:
        print(json.dumps(["", "was taken"]))
    os.environ.clear()
    os.environ.update(before)
"""


def test_the_production_profile_refuses_what_is_unfit(tmp_path):
    """All of them in one process: what it imports takes a second."""
    done = production(tmp_path, "-c", TRY_EACH, json.dumps(UNFIT))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (_, words), (kind, said) in zip(UNFIT, found, strict=True):
        assert kind == "ImproperlyConfigured"
        assert words in said


def directives(answer) -> dict[str, str]:
    policy = answer["Content-Security-Policy"]
    return {part.split()[0]: part for part in policy.split("; ")}


@pytest.mark.parametrize(
    "path", ["/", "/admin/login/", "/api/v1/session/options", "/healthz", "/accounts/login/error/"]
)
def test_every_page_has_a_policy_without_unsafe_words(db, path):
    answer = Client().get(path)
    found = directives(answer)
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert found["default-src"] == "default-src 'self'"
    assert found["frame-ancestors"] == "frame-ancestors 'none'"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_each_page_load_has_a_nonce_of_its_own(db, settings, tmp_path):
    (tmp_path / "index.html").write_text('<meta name="csp-nonce" content="__CSP_NONCE__">')
    settings.FRONTEND_DIST = tmp_path
    nonces = set()
    for _ in range(2):
        answer = Client().get("/")
        shown = re.search(r'content="([^"]+)"', answer.content.decode()).group(1)
        assert f"'nonce-{shown}'" in directives(answer)["style-src"]
        nonces.add(shown)
    assert len(nonces) == 2


def test_cookies_cannot_be_read_or_sent_from_elsewhere(db):
    person("viewer", name="vera")
    client = Client()
    client.post(
        "/api/v1/session", {"username": "vera", "password": PASSWORD}, content_type="application/json"
    )
    session, csrf = client.cookies["sessionid"], client.cookies["csrftoken"]
    assert (session["httponly"], session["samesite"], csrf["samesite"]) == (True, "Lax", "Lax")


def test_new_passwords_are_hashed_by_argon2():
    text = (ROOT / "console/settings/base.py").read_text()
    assert text.index("Argon2PasswordHasher") < text.index("PBKDF2PasswordHasher")


def test_what_others_wrote_stays_one_line_and_text(as_role, caplog):
    """Case 42: CRLF, ANSI and markup in what callers send."""
    client = as_role("viewer")
    evil = "<script>alert(1)</script>\r\nfake: line\x1b[31m"
    with caplog.at_level(logging.INFO):
        answer = client.get("/api/v1/instances/nothing", headers={"User-Agent": evil, "X-Request-ID": evil})
        client.get("/api/v1/none%0d%0aINFO forged: line%1b[31m")
    assert answer["Content-Type"] == "application/problem+json"
    assert "<script>" not in str(dict(answer.headers))
    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\x1b" not in record.getMessage()


@pytest.fixture
def secrets_made(live_redis, as_role, caplog) -> list[str]:
    """One of every secret, made by the API itself while everything is logged."""
    caplog.set_level(logging.DEBUG)
    client = as_role("admin")

    def made(path: str, body: dict[str, object], field: str) -> str:
        headers = {"Idempotency-Key": f"k-{path}"}
        answer = client.post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)
        assert answer.status_code in {200, 201}, answer.content
        return str(answer.json()[field])

    hook = {"name": "pager", "url": "https://93.184.216.34/hook"}
    found = [
        made("tenants/acme/keys", {"name": "one"}, "key"),
        made("tokens", {"name": "ci", "role": "viewer", "scopes": ["read"]}, "token"),
        made("people", {"username": "newcomer", "role": "viewer"}, "password"),
        made("me/totp", {}, "secret"),
        made("webhooks", hook, "secret"),
    ]
    return [*found, PASSWORD]


def test_no_secret_is_seen_again_anywhere(secrets_made, as_role, caplog, capfd):
    """Case 48: audit, lists, errors, metrics, admin, stored answers, logs."""
    from django.contrib.auth.models import User

    client = as_role("operator")
    client.force_login(User.objects.get(username="the-admin"))
    seen = []
    for (_, method), call in CALLS.items():
        if method == "get":
            seen.append(
                client.get(
                    call.path if call.path.startswith("/") else f"/api/v1/{call.path}"
                ).content.decode()
            )
    User.objects.filter(username="the-admin").update(is_staff=True, is_superuser=True)
    for page in ("tenancy/apikey/", "tenancy/tenant/", "records/auditentry/", "auth/user/"):
        seen.append(client.get(f"/admin/{page}").content.decode())
    seen.append(client.get("/api/v1/audit?limit=200").content.decode())
    seen.append(json.dumps(list(StoredAnswer.objects.values_list("body", flat=True))))
    seen.append(str(list(AuditEntry.objects.values())))
    for secret in secrets_made:
        headers = {"Authorization": f"Bearer {secret}"}
        body = {"username": secret, "passwrd": secret}
        bad = client.post("/api/v1/session", body, content_type="application/json", headers=headers)
        seen.append(bad.content.decode())
        seen.append(client.get("/api/v1/me", headers=headers).content.decode())
    out, err = capfd.readouterr()
    seen += [out, err, *(record.getMessage() + str(record.exc_text or "") for record in caplog.records)]
    leaks = [(secret[:6], text[:200]) for secret in secrets_made for text in seen if secret in text]
    assert leaks == []
    assert any("issue" in text for text in seen), "the acts themselves are in the audit list"


def test_v1_and_machine_paths_ignore_cookies(as_role, live_redis, fleet):
    """Case 41, the other side: a token's call needs no CSRF, and brings no session's rights."""
    _, raw = issue_token(
        name="r", role="viewer", scopes=[scopes.READ], by=Principal("t", "admin"), issuer=None
    )
    client = as_role("admin")
    answer = client.post("/api/v1/instances/main-1/drain", {}, content_type="application/json",
                         headers={"Authorization": f"Bearer {raw}"})  # fmt: skip
    assert answer.status_code == 403
    assert "scope" in answer.json()["detail"]
