"""Whoever may not listen any more is found, all browsers in one look."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone

from console.dashboard import listeners
from console.dashboard.listeners import NO_ROLE, NOT_SIGNED_IN, Credentials, Listeners, refusals
from controlplane.tenancy.models import Membership, SLOClass, Tenant

pytestmark = pytest.mark.django_db
OWNER = Membership.Role.TENANT_OWNER
numbers = count()


def tenant() -> Tenant:
    return Tenant.objects.create(slug="acme", name="acme", slo_class=SLOClass.objects.get(name="standard"))


def signed_in(role: str) -> Credentials:
    client = Client()
    user = get_user_model().objects.create_user(f"person-{next(numbers)}")
    Membership.objects.create(
        user=user,
        role=role,
        tenant=tenant() if role == OWNER else None,
    )
    client.force_login(user)
    return Credentials(client.cookies["sessionid"].value, user.pk)


def test_each_reason_has_its_code_and_the_others_stay():
    viewer, owner, operator = signed_in("viewer"), signed_in(OWNER), signed_in("operator")
    signed_out = Credentials("no-such-session", viewer.user_id)
    nobody = Credentials(viewer.session_key, 10**9)
    codes = refusals([viewer, owner, operator, signed_out, nobody])
    assert codes == {owner: NO_ROLE, signed_out: NOT_SIGNED_IN, nobody: NOT_SIGNED_IN}


def test_a_session_that_ran_out_and_a_closed_account_are_signed_out():
    expired, closed = signed_in("viewer"), signed_in("operator")
    Session.objects.filter(session_key=expired.session_key).update(
        expire_date=timezone.now() - timedelta(seconds=1)
    )
    get_user_model().objects.filter(pk=closed.user_id).update(is_active=False)
    assert refusals([expired, closed]) == dict.fromkeys([expired, closed], NOT_SIGNED_IN)


@pytest.mark.parametrize("browsers", [1, 5])
def test_all_browsers_are_one_look(browsers, django_assert_num_queries):
    known = [signed_in("viewer") for _ in range(browsers)]
    with django_assert_num_queries(3):
        assert refusals(known) == {}


class Browser:
    def __init__(self, name: str, *, stuck: bool = False) -> None:
        self.credentials = Credentials(name, 1)
        self.stuck = stuck
        self.code = 0

    async def close(self, code: int) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.code = code


async def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("did not happen within 6 s")


async def test_one_that_does_not_read_its_end_keeps_nobody_in(monkeypatch):
    monkeypatch.setattr(listeners, "RECHECK_S", 0.01)
    monkeypatch.setattr(listeners, "CLOSE_WITHIN_S", 0.05)
    monkeypatch.setattr(listeners, "refusals", lambda asked: dict.fromkeys(asked, NO_ROLE))
    known, stuck, other, late = Listeners(), Browser("a", stuck=True), Browser("b"), Browser("c")
    known.add(stuck)
    known.add(other)
    await until(lambda: other.code)
    known.add(late)
    await until(lambda: late.code)
    await known.stop()
    assert (other.code, late.code) == (NO_ROLE, NO_ROLE)


async def test_while_the_database_is_away_those_who_are_in_stay_in(monkeypatch):
    answers = iter([DatabaseError("away"), {}, {Credentials("a", 1): NOT_SIGNED_IN}])

    def look(asked):
        answer = next(answers)
        if isinstance(answer, DatabaseError):
            raise answer
        return answer

    monkeypatch.setattr(listeners, "RECHECK_S", 0.01)
    monkeypatch.setattr(listeners, "refusals", look)
    known, browser = Listeners(), Browser("a")
    known.add(browser)
    await until(lambda: browser.code)
    await known.stop()
    assert next(answers, "all asked") == "all asked"
