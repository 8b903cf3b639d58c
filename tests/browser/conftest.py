"""One running console per session, one browser, a fresh page per test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect, sync_playwright

from tests.browser.stack import PASSWORD, PROJECT, Stack

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000
WALK = {"test_actions", "test_quality"}
"""Run in this order on one console: the walk through all pages is to see what the actions left."""


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    if not (PROJECT / "frontend" / "dist" / "index.html").exists():
        pytest.fail("the front end is not built: run `make setup` first")
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-browser-"))
    made = Stack(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def sessions() -> dict[str, StorageState]:
    """Cookies of those who signed in already: hashing a password slowly is the point of it."""
    return {}


@pytest.fixture
def open_page(
    browser: Browser, stack: Stack, sessions: dict[str, StorageState]
) -> Iterator[Callable[..., Page]]:
    """``open_page("olga")``: a page signed in as her; fails the test on any script error."""
    contexts = []
    faults: list[str] = []

    def make(
        user: str | None = "olga",
        *,
        path: str = "/",
        width: int = 1440,
        scheme: Literal["dark", "light"] = "dark",
        own_session: bool = False,
        motion: Literal["no-preference", "reduce"] = "no-preference",
    ) -> Page:
        known = None if user is None or own_session else sessions.get(user)
        context = browser.new_context(
            viewport={"width": width, "height": 960},
            color_scheme=scheme,
            storage_state=known,
            reduced_motion=motion,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(stack.url + path)
        if user is not None and known is None:
            sign_in(page, user)
            expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
            if not own_session:
                sessions[user] = context.storage_state()
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def sign_in(page: Page, user: str, password: str = PASSWORD) -> None:
    page.get_by_label("User").fill(user)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For two processes, of which each has a console: the walk on one, all else on the other."""
    from xdist.scheduler import LoadScopeScheduling

    class ByConsole(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "walk" if Path(nodeid.partition("::")[0]).stem in WALK else "screens"

    return ByConsole(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screens", default="", help="folder for pictures of the real system's screens")
