"""Who asks for reduced motion sees none: the fleet changes four times a second, and nothing glides."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

WATCH_MS = 1_000
WATCH = """
() => {
  const seen = new Set();
  const name = (element) => element?.className?.baseVal ?? element?.className;
  const note = (event) => seen.add(`${event.type} ${name(event.target)}`);
  for (const kind of ["transitionrun", "animationstart"]) document.addEventListener(kind, note, true);
  const look = () => {
    for (const each of document.getAnimations()) {
      if (each.playState === "running") seen.add(`running ${name(each.effect?.target)}`);
    }
    window.watching = requestAnimationFrame(look);
  };
  look();
  window.moved = () => { cancelAnimationFrame(window.watching); return [...seen]; };
}
"""


def moved_within(page: Page, ms: int = WATCH_MS) -> list[str]:
    """What animated on this page meanwhile: in every frame and at every start of a transition."""
    page.evaluate(WATCH)
    page.wait_for_timeout(ms)
    return list(page.evaluate("window.moved()"))


def test_nothing_animates_for_those_who_asked_for_less_motion(open_page, stack):
    page = open_page(motion="reduce")
    expect(page.get_by_label("fleet").get_by_role("row").nth(1)).to_contain_text("serving")
    found = {"overview": moved_within(page)}
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    found["a dialog"] = moved_within(page, 300)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Migrations").click()
    expect(page.get_by_label("running moves")).to_be_visible()
    found["migrations"] = moved_within(page)
    page.get_by_role("link", name="Cluster").click()
    page.evaluate(WATCH)
    with stack.moving():
        page.locator(".map-arc").first.wait_for(state="attached")
        found["map"] = list(page.evaluate("window.moved()"))
    assert {page: moved for page, moved in found.items() if moved} == {}


def test_the_same_watch_sees_what_glides_for_all_others(open_page):
    page = open_page()
    expect(page.get_by_label("fleet").get_by_role("row").nth(1)).to_contain_text("serving")
    assert any("seg" in each for each in moved_within(page))
