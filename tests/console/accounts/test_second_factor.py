"""Signing in with a code of an authenticator app, and what a stolen password is worth without one."""

from __future__ import annotations

import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.test import Client

from console.accounts import second_factor
from controlplane.records.models import AuditEntry
from tests.console.conftest import PASSWORD, person


def code_of(secret: str, *, steps: int = 0) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + steps))


def call(client: Client, method: str, path: str, **body):
    return getattr(client, method)(f"/api/v1/{path}", body, content_type="application/json")


@pytest.fixture
def vera(db):
    return person("viewer", name="vera")


@pytest.fixture
def armed(vera) -> tuple[str, list[str]]:
    """Vera's secret and recovery codes, set up through the API."""
    client = Client()
    client.force_login(vera)
    begun = call(client, "post", "me/totp").json()
    assert begun["secret"] in begun["uri"]
    assert begun["qr_svg"].startswith("<?xml")
    assert call(client, "post", "me/totp/confirm", code="000000").status_code == 400
    confirmed = call(client, "post", "me/totp/confirm", code=code_of(begun["secret"]))
    assert confirmed.status_code == 200, confirmed.content
    return begun["secret"], confirmed.json()["recovery_codes"]


def sign_in(**body):
    client = Client()
    return client, call(client, "post", "session", username="vera", password=PASSWORD, **body)


def test_a_password_alone_signs_nobody_in(armed):
    client, answer = sign_in()
    assert answer.json() == {"second_factor": True, "username": None, "role": None, "tenants": [],
                             "may_act": False, "may_administer": False}  # fmt: skip
    assert client.get("/api/v1/me").status_code == 401


def test_with_the_code_of_the_moment_one_is_signed_in_and_it_works_once(armed):
    secret, _ = armed
    code = code_of(secret, steps=1)
    client, answer = sign_in(code=code)
    assert answer.json()["username"] == "vera"
    assert client.get("/api/v1/me").status_code == 200
    assert sign_in(code=code)[1].status_code == 400, "a code that was seen is not taken again"


def test_a_recovery_code_works_once(armed, vera):
    _, codes = armed
    assert second_factor.recovery_codes_left(vera) == len(codes) == 10
    assert sign_in(code=codes[0])[1].json()["username"] == "vera"
    assert sign_in(code=codes[0])[1].status_code == 400
    assert second_factor.recovery_codes_left(vera) == 9


def test_guessing_codes_is_slowed_down(armed):
    statuses = [sign_in(code=f"{number:06}")[1].status_code for number in range(7)]
    assert statuses[:4] == [400] * 4
    assert statuses[-1] == 429


def test_removing_it_takes_a_code_and_all_of_it_is_audited(armed, vera):
    secret, codes = armed
    client, _ = sign_in(code=codes[1])
    assert call(client, "delete", "me/totp", code="000000").status_code == 400
    assert call(client, "delete", "me/totp", code=codes[2]).status_code == 204
    assert sign_in()[1].json()["second_factor"] is False
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["person.second_factor.add", "person.second_factor.remove"]
    assert secret not in str(list(AuditEntry.objects.values()))


def test_new_recovery_codes_end_the_old_ones(armed, vera):
    _, codes = armed
    client, _ = sign_in(code=codes[0])
    fresh = call(client, "post", "me/recovery-codes", code=codes[1]).json()["recovery_codes"]
    assert not set(fresh) & set(codes)
    assert sign_in(code=codes[2])[1].status_code == 400


def test_a_pending_secret_of_another_person_cannot_be_confirmed(vera, db):
    begun = second_factor.begin(vera)
    with pytest.raises(second_factor.AccountError, match="somebody else"):
        second_factor.confirm(
            person("viewer", name="otto"), pending=begun.pending, code=code_of(begun.secret)
        )
