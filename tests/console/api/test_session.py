from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client

from tests.console.conftest import PASSWORD, person


@pytest.fixture(autouse=True)
def no_attempts_yet():
    cache.clear()


@pytest.fixture
def browser(db) -> Client:
    """A browser that has loaded the page: it holds the CSRF cookie and nothing else."""
    client = Client(enforce_csrf_checks=True)
    client.get("/")
    return client


def sign_in(client: Client, **body):
    token = client.cookies["csrftoken"].value
    return client.post(
        "/api/v1/session", body, content_type="application/json", headers={"X-CSRFToken": token}
    )


def test_signing_in_tells_who_one_is_and_what_one_may(browser):
    person("viewer", name="vera")
    answer = sign_in(browser, username="vera", password=PASSWORD)
    told = {"username": "vera", "role": "viewer", "tenants": [], "may_act": False, "may_administer": False}
    assert answer.json() == {"second_factor": False, **told}
    assert browser.get("/api/v1/me").json() == {**told, "machine": False}


def test_signing_out_ends_the_session(browser):
    person("operator", name="olga")
    sign_in(browser, username="olga", password=PASSWORD)
    token = browser.cookies["csrftoken"].value
    assert browser.delete("/api/v1/session", headers={"X-CSRFToken": token}).status_code == 204
    assert browser.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize("name", ["vera", "nobody"])
def test_a_wrong_password_and_an_unknown_user_are_answered_alike(browser, name):
    person("viewer", name="vera")
    answer = sign_in(browser, username=name, password="wrong")
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"field": "password", "message": "this user and password do not belong together"}
    ]


def test_signing_in_needs_a_csrf_token(db):
    person("viewer", name="vera")
    client = Client(enforce_csrf_checks=True)
    answer = client.post(
        "/api/v1/session", {"username": "vera", "password": PASSWORD}, content_type="application/json"
    )
    assert answer.status_code == 403


def test_guessing_is_slowed_down_and_says_when_to_go_on(browser):
    person("viewer", name="vera")
    answers = [sign_in(browser, username="vera", password=f"guess-{n}") for n in range(12)]
    assert [answer.status_code for answer in answers] == [400] * 4 + [429] * 8
    assert int(answers[-1]["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "vera"}, "password"),
        ({"password": "x"}, "username"),
        ({"username": "v" * 151, "password": "x"}, "username"),
        ({"username": "v", "password": "x", "next": "/"}, "next"),
    ],
)
def test_a_bad_form_names_the_field(browser, body, field):
    answer = sign_in(browser, **body)
    assert answer.status_code == 400
    assert field in {error["field"] for error in answer.json()["errors"]}
