"""The live page in a real browser: load arrives, stale data is marked, losses are said and heal."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import sign_in

pytestmark = pytest.mark.browser


def row_of(page: Page, instance: str):
    return page.get_by_label("fleet").get_by_role("row").filter(has=page.get_by_role("link", name=instance))


def test_a_wrong_password_is_said_at_its_field_and_the_right_one_signs_in(open_page):
    page = open_page(None)
    sign_in(page, "olga", "wrong")
    expect(page.get_by_text("this user and password do not belong together")).to_be_visible()
    sign_in(page, "olga")
    expect(page.get_by_text("serving").first).to_be_visible()
    expect(page.get_by_role("button", name="olga operator")).to_be_visible()


def test_the_fleets_load_arrives_and_changes(open_page):
    page = open_page()
    for number in (1, 2, 3, 4):
        expect(row_of(page, f"main-{number}")).to_contain_text("serving")
    bar = row_of(page, "main-1").get_by_role("img", name=re.compile("blocks used"))
    first = bar.get_attribute("aria-label")
    expect(bar).not_to_have_attribute("aria-label", first)
    expect(page.get_by_label("class interactive")).to_contain_text("target 500")
    expect(page.get_by_label("events").get_by_role("listitem").first).to_contain_text("main-")


def test_an_instance_that_falls_silent_is_marked_greyed_and_named(open_page, stack):
    page = open_page()
    row = row_of(page, "main-2")
    expect(row).to_contain_text("serving")
    stack.muted.add("main-2")
    try:
        expect(row).to_contain_text("late")
        expect(row).to_contain_text("silent")
        expect(row).to_have_class(re.compile("is-stale"))
        expect(page.get_by_label("problems")).to_contain_text("main-2 has not reported for")
        expect(row_of(page, "main-1")).to_contain_text("serving")
    finally:
        stack.go_on()
    expect(row).to_contain_text("serving")


def test_a_lost_connection_is_said_data_grows_old_and_it_heals_by_itself(open_page, stack):
    page = open_page()
    expect(row_of(page, "main-1")).to_contain_text("serving")
    stack.stop_server()
    try:
        expect(page.get_by_role("status").filter(has_text="Connection lost")).to_be_visible()
        drain = page.get_by_role("button", name=re.compile("Migrate a request")).first
        expect(drain).to_have_attribute("aria-disabled", "true")
        expect(drain).to_contain_text("waits for the console")
        expect(row_of(page, "main-1")).to_contain_text("silent")
    finally:
        stack.start_server()
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    expect(row_of(page, "main-1")).to_contain_text("serving")
    expect(drain).not_to_have_attribute("aria-disabled", "true")


def test_a_redis_that_is_away_is_said_with_what_still_works(open_page, stack):
    page = open_page()
    expect(row_of(page, "main-1")).to_contain_text("serving")
    stack.stop_redis()
    try:
        expect(page.get_by_label("situation")).to_contain_text("Redis has not answered for")
        expect(page.get_by_text("On hold until Redis answers")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Migrate a request")).first).to_contain_text(
            "waits for Redis"
        )
    finally:
        stack.start_redis()
    expect(row_of(page, "main-1")).to_contain_text("serving")
    expect(page.get_by_text("On hold until Redis answers")).to_be_hidden()


def test_a_loop_that_stopped_is_said_with_since_when_and_what_waits(open_page, stack):
    page = open_page()
    expect(row_of(page, "main-1")).to_contain_text("serving")
    stack.fleet.loop_silent_s = 47.0
    try:
        expect(page.get_by_role("region", name="On hold until the loop ticks")).to_contain_text("Autoscaling")
        expect(page.get_by_role("region", name="Still works")).to_contain_text("Requests and streams")
        expect(page.get_by_label("situation")).to_contain_text("Nothing is planned")
        expect(page.get_by_label("problems")).to_contain_text("The rebalancing loop has not ticked for 47")
        expect(row_of(page, "main-1")).to_contain_text("serving")
    finally:
        stack.fleet.loop_silent_s = 0.0
    expect(page.get_by_role("region", name="On hold until the loop ticks")).to_be_hidden()


def test_before_the_first_report_the_page_says_what_to_do_and_becomes_the_overview(open_page, stack):
    stack.hold_reports()
    stack.stop_server()
    stack.stop_redis()
    stack.start_redis()
    stack.start_server()
    try:
        page = open_page()
        expect(page.get_by_role("heading", name="No engine serves yet")).to_be_visible()
        checks = page.get_by_role("listitem")
        expect(checks.filter(has_text="Redis")).to_contain_text("answers")
        expect(checks.filter(has_text="Rebalancing loop")).to_contain_text("nobody leads yet")
        expect(page.get_by_text("main-4", exact=True)).to_be_visible()
    finally:
        stack.go_on()
    expect(row_of(page, "main-1")).to_contain_text("serving")


def test_pause_freezes_the_screen_and_says_how_far_behind_it_is(open_page):
    page = open_page()
    bar = row_of(page, "main-1").get_by_role("img", name=re.compile("blocks used"))
    expect(bar).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()
    frozen = bar.get_attribute("aria-label")
    page.wait_for_timeout(2_500)
    assert bar.get_attribute("aria-label") == frozen
    expect(page.get_by_text(re.compile(r"by you, [1-9].* behind"))).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(bar).not_to_have_attribute("aria-label", frozen)


def test_the_keyboard_jumps(open_page):
    page = open_page()
    expect(page.get_by_label("situation")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="Tenants", exact=True)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("pause and resume")
