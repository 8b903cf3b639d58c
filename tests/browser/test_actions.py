"""What people do on the page takes effect at the services and is audited; who may not, cannot."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def audit_line(page: Page, words: str):
    page.get_by_role("link", name=re.compile("^Audit")).click()
    return page.get_by_label("audit entries").get_by_role("listitem").filter(has_text=words).first


def test_a_drain_shows_its_impact_takes_effect_and_can_be_undone(open_page):
    page = open_page(path="/instances/main-3")
    page.get_by_role("button", name="Drain main-3…").click()
    dialog = page.get_by_role("dialog", name="Drain main-3?")
    expect(dialog).to_contain_text("running requests move")
    expect(dialog).to_contain_text(re.compile(r"[\d,]+ free, the largest gap"))
    dialog.get_by_label("Reason").fill("new kernel")
    dialog.get_by_role("button", name="Drain main-3").click()
    expect(page.get_by_text("main-3 is draining; its requests move away.")).to_be_visible()
    expect(page.get_by_role("button", name="Undrain main-3…")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("main-3 takes requests again.")).to_be_visible()
    expect(page.get_by_role("button", name="Drain main-3…", exact=True)).to_be_visible()
    line = audit_line(page, "new kernel")
    expect(line).to_contain_text("olga")
    expect(line).to_contain_text("draining")


def test_a_tenants_class_is_changed_with_its_effect_told_before(open_page):
    page = open_page(path="/tenants/globex")
    expect(page.get_by_text("Served as").first).to_be_visible()
    page.get_by_role("button", name="Change class…").click()
    dialog = page.get_by_role("dialog", name="Class of globex")
    dialog.get_by_role("radio", name=re.compile("interactive")).check()
    expect(dialog).to_contain_text("New requests of globex that name no class are served as interactive")
    dialog.get_by_role("button", name="Serve globex as interactive").click()
    expect(page.get_by_text("globex is served as interactive from now on.")).to_be_visible()
    line = audit_line(page, "globex")
    expect(line).to_contain_text("tenant update")


def test_a_running_request_is_moved_by_hand(open_page, stack):
    page = open_page(path="/instances/main-1")
    requests = page.get_by_label("requests")
    stack.fleet.standing = True  # A request that ends meanwhile could not be moved, which is right.
    try:
        first = requests.get_by_role("row").filter(has_text="decoding").first
        first.get_by_role("button", name="Migrate…").click()
        dialog = page.get_by_role("dialog", name="Migrate a request")
        dialog.get_by_role("combobox", name="To").click()
        page.get_by_role("option", name=re.compile("main-4")).click()
        expect(dialog).to_contain_text(re.compile("main-4 has [\\d,]+ tokens free"))
        dialog.get_by_role("button", name="Migrate to main-4").click()
        expect(page.get_by_text(re.compile("shall move to main-4: manual-"))).to_be_visible()
    finally:
        stack.fleet.standing = False
    expect(audit_line(page, "request migrate")).to_contain_text("olga")


def test_a_viewer_sees_everything_and_can_do_nothing(open_page):
    page = open_page("vera", path="/instances/main-1")
    for name in ("Drain main-1", "Migrate a request"):
        button = page.get_by_role("button", name=re.compile(name))
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_contain_text("needs role operator")
        button.click(force=True)
    expect(page.get_by_role("dialog")).to_be_hidden()
    status = page.evaluate(
        """async () => {
          const token = document.cookie.split("csrftoken=")[1].split(";")[0];
          const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
          const asked = { method: "POST", headers, body: "{}" };
          const answer = await fetch("/api/v1/instances/main-1/drain", asked);
          return [answer.status, (await answer.json()).detail];
        }"""
    )
    assert status == [403, "This needs the role operator or admin; your role is viewer."]


def test_signing_out_ends_it_here_and_at_the_server(open_page):
    page = open_page("ada", own_session=True)
    page.get_by_role("button", name="ada admin").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
