"""Signing in by an OpenID Connect issuer, known by its URL alone: a real one in a thread, keys and all."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth.models import User
from django.test import Client

from console.accounts.adapters import role_in
from controlplane.tenancy.selectors import role_of

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.groups = ["ops"]
        self.nonce = ""
        self.challenge = ""
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def id_token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "sub": "42", "aud": "llumdeck", "iat": now, "exp": now + 60,
                  "preferred_username": "olga", "groups": self.groups}  # fmt: skip
        return jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "k1"})


class Handler(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        url = self.server.url
        if self.path == "/.well-known/openid-configuration":
            return self.say({"issuer": url, "authorization_endpoint": f"{url}/authorize",
                      "token_endpoint": f"{url}/token",
                      "jwks_uri": f"{url}/jwks", "userinfo_endpoint": f"{url}/userinfo",
                      "token_endpoint_auth_methods_supported": ["client_secret_post"]})  # fmt: skip
        if self.path == "/jwks":
            numbers = KEY.public_key().public_numbers()
            return self.say({"keys": [{"kty": "RSA", "kid": "k1", "alg": "RS256", "use": "sig",
                                "n": octets(numbers.n), "e": octets(numbers.e)}]})  # fmt: skip
        return self.say({"sub": "42", "preferred_username": "olga", "groups": self.server.groups})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say({"access_token": "at", "token_type": "Bearer", "id_token": self.server.id_token()})

    def say(self, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args) -> None:
        pass


def octets(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture
def issuer(db, settings):
    server = Issuer()
    app = {"provider_id": "oidc", "name": "Work", "client_id": "llumdeck", "secret": "s",
           "settings": {"server_url": server.url}}  # fmt: skip
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
    settings.OIDC_ISSUER, settings.OIDC_NAME = server.url, "Work"
    settings.OIDC_ROLES = ["ops=operator", "chiefs=admin", "guests=viewer", "bad=tenant_owner"]
    yield server
    server.close()


def sign_in() -> Client:
    """What a browser does: to the issuer, and back with its code."""
    client = Client()
    options = client.get("/api/v1/session/options").json()
    away = client.get(options["oidc"][0]["login_url"])
    assert away.status_code == 302, away.content[:300]
    asked = parse_qs(urlsplit(away["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    back = client.get("/accounts/oidc/oidc/login/callback/", {"code": "c", "state": asked["state"][0]})
    assert back.status_code == 302, back.content[:500]
    return client


def test_whom_the_issuer_vouches_for_is_signed_in_with_the_role_of_its_claim(issuer):
    me = sign_in().get("/api/v1/me").json()
    assert (me["username"], me["role"]) == ("olga", "operator")
    person = User.objects.get(username="olga")
    assert not person.has_usable_password()


def test_the_role_follows_the_issuer_at_every_sign_in(issuer):
    sign_in()
    issuer.groups = ["guests"]
    assert sign_in().get("/api/v1/me").json()["role"] == "viewer"
    issuer.groups = []
    assert sign_in().get("/api/v1/me").json()["role"] is None
    assert User.objects.count() == 1


def test_without_a_known_group_one_is_signed_in_and_may_nothing(issuer):
    issuer.groups = ["strangers"]
    client = sign_in()
    assert client.get("/api/v1/me").json()["role"] is None
    assert client.get("/api/v1/instances").status_code == 403
    assert role_of(User.objects.get(username="olga")) is None


def test_an_answer_that_was_not_asked_for_signs_nobody_in(issuer):
    client = Client()
    answer = client.get("/accounts/oidc/oidc/login/callback/", {"code": "c", "state": "made-up"})
    assert answer.status_code in {200, 302, 401, 403}
    assert client.get("/api/v1/me").status_code == 401


def test_nothing_is_offered_where_no_issuer_is_set(client, db):
    assert client.get("/api/v1/session/options").json() == {"password": True, "oidc": []}


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["guests", "chiefs"], "admin"), ("ops", "operator"), ([], None), (["bad"], None), (None, None)],
)
def test_the_highest_role_that_a_claim_stands_for(settings, groups, role):
    settings.OIDC_ROLES = ["ops=operator", "chiefs=admin", "guests=viewer", "bad=tenant_owner"]
    settings.OIDC_ROLE_CLAIM = "groups"
    assert role_in({"groups": groups} if groups is not None else {}) == role
