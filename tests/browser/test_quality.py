"""What every page must keep: nothing from elsewhere, a small first load, 360 px, no axe violation."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.conftest import PATIENCE_MS, sign_in
from tests.browser.routes import NOWHERE, SOURCES, is_visited, routes_of
from tests.browser.seed import FINISHED
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
    f"/requests/{FINISHED}": "life of the request",
    "/migrations": "running moves",
    "/migrations?by=pair": "outcomes",
    "/migrations/MOVE": "stages",
    "/scheduling": "rounds",
    "/scheduling/policy": "policy",
    "/scheduling/versions": "versions",
    "/scheduling/what-if": "what if",
    "/scheduling/autoscaling": "size of the pool",
    "/tenants?class=interactive": "class interactive",
    "/tenants/acme": "keys",
    "/alerts": "firing",
    "/audit": "audit entries",
    "/settings/profile": "second factor",
    "/settings/appearance": "appearance",
    "/settings/people": "people",
    "/settings/tokens": "machine tokens",
    "/settings/rules": "alert rules",
    "/settings/system": "system",
    "/playground": "chat",
    "/docs/runbooks#queue-time": "queue time",
    NOWHERE: None,
}
"""Of those who look after the fleet: each with what stands on it once it is there."""
OWNERS = {"/tenants/globex": "keys", "/settings/profile": "second factor"}
"""Of a tenant's owner."""
WIDE: ViewportSize = {"width": 1440, "height": 960}
NARROW: ViewportSize = {"width": 360, "height": 780}
MAX_SCRIPT_KB = 300
AXE = PROJECT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"


def step(page: Page, path: str, label: str | None) -> None:
    """Go on as a link does: without loading everything anew."""
    page.evaluate(
        "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
    )
    there = page.get_by_label(label, exact=True) if label else page.get_by_text("There is no such page.")
    expect(there.first).to_be_visible()
    page.wait_for_timeout(200)


@dataclass
class Tour:
    """What one walk over all pages found, each in the dark, in the light and narrow."""

    widths: dict[str, int] = field(default_factory=dict)
    violations: list[tuple[str, str, str, str]] = field(default_factory=list)

    def look(self, page: Page, path: str) -> None:
        self.violations += violations(page, path, "dark", "{}")
        page.emulate_media(color_scheme="light")
        # The theme changes colours and nothing else.
        self.violations += violations(page, path, "light", "{runOnly: ['color-contrast']}")
        page.set_viewport_size(NARROW)
        page.wait_for_timeout(150)
        self.widths[path] = page.evaluate("document.documentElement.scrollWidth")
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size(WIDE)


@pytest.fixture(scope="module")
def tour(browser: Browser, stack: Stack) -> Tour:
    made = Tour()
    with entered(browser, stack) as page:
        made.look(page, "sign in")
        sign_in(page, "ada")
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        for path, label in PAGES.items():
            step(page, path.replace("MOVE", last_move(page, stack)) if "MOVE" in path else path, label)
            made.look(page, path)
    with entered(browser, stack) as page:
        sign_in(page, "otto")
        for path, label in OWNERS.items():
            step(page, path, label)
            made.look(page, f"owner {path}")
    return made


@contextmanager
def entered(browser: Browser, stack: Stack) -> Iterator[Page]:
    context = browser.new_context(viewport=WIDE, color_scheme="dark")
    context.add_init_script(AXE.read_text())
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(stack.url)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    yield page
    context.close()


def last_move(page: Page, stack: Stack) -> str:
    """The name of one that the page of moves shows."""
    step(page, "/migrations", "running moves")
    with stack.moving():
        link = page.get_by_label("running moves").locator("a[href^='/migrations/']").first
        return str(link.get_attribute("href")).rsplit("/", 1)[1]


def violations(page: Page, path: str, scheme: str, options: str) -> list[tuple[str, str, str, str]]:
    found = page.evaluate(f"axe.run(document, {{resultTypes: ['violations'], ...{options}}})")
    return [(path, scheme, item["id"], item["nodes"][0]["html"]) for item in found["violations"]]


def test_the_tour_forgets_no_route_of_the_console():
    visited = {"App.tsx": list(PAGES), "OwnerApp.tsx": list(OWNERS)}
    for router, paths in visited.items():
        routes = routes_of(SOURCES / router)
        assert len(routes) >= len(OWNERS)
        assert [route for route in sorted(routes) if not is_visited(route, paths)] == []


def test_every_page_fits_into_360_pixels(tour):
    assert len(tour.widths) == 1 + len(PAGES) + len(OWNERS)
    assert {path: width for path, width in tour.widths.items() if width > NARROW["width"]} == {}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_no_violation_on_any_page(tour, scheme):
    assert [item for item in tour.violations if item[1] == scheme] == []


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
