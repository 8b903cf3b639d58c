"""What every page must keep: nothing from elsewhere, a small first load, 360 px, no axe violation."""

from __future__ import annotations

import gzip
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.stack import PROJECT, Stack

pytestmark = pytest.mark.browser

PAGES = {
    "/": "situation",
    "/cluster?selected=main-1": "selected instance",
    "/cluster?view=table": "instances as a table",
    "/instances": "instances",
    "/instances/main-1": "memory by request",
    "/requests": "live requests",
    "/requests?view=finished": "finished requests",
    "/migrations": "running moves",
    "/scheduling": "rounds",
    "/scheduling/policy": "policy",
    "/scheduling/autoscaling": "size of the pool",
    "/tenants?class=interactive": "class interactive",
    "/tenants/acme": "keys",
    "/alerts": "firing",
    "/audit": "audit entries",
    "/settings/profile": "second factor",
    "/settings/people": "people",
    "/settings/rules": "alert rules",
    "/playground": "chat",
}
MAX_SCRIPT_KB = 300
AXE = PROJECT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"


def visit(page: Page, stack: Stack, path: str) -> None:
    page.goto(stack.url + path)
    expect(page.get_by_label(PAGES[path], exact=True).first).to_be_visible()
    page.wait_for_timeout(300)


def test_every_page_fits_into_360_pixels(open_page, stack):
    page = open_page("ada", width=360, scheme="light")
    widths = {}
    for path in PAGES:
        visit(page, stack, path)
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert widths == dict.fromkeys(PAGES, 360)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_violation_on_any_page(open_page, stack, scheme):
    page = open_page("ada", scheme=scheme)
    shown = []
    for path in PAGES:
        visit(page, stack, path)
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        shown += [(path, item["id"], item["nodes"][0]["html"]) for item in found["violations"]]
    assert shown == []


def test_the_first_load_asks_only_this_host_and_stays_small(open_page, stack):
    page = open_page(None)
    scripts: dict[str, int] = {}
    hosts = set()

    def note(response) -> None:
        hosts.add(urlsplit(response.url).netloc)
        if response.request.resource_type == "script":
            scripts[response.url] = len(gzip.compress(response.body()))

    page.on("response", note)
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert hosts == {urlsplit(stack.url).netloc}
    assert scripts
    assert sum(scripts.values()) <= MAX_SCRIPT_KB * 1024
