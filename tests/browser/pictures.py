"""Pictures of screens: both themes, 1440 and 360 px wide, small enough to be kept.

Those of the real system are taken by ``test_real_system.py --screens FOLDER``; those of a fleet of eight
that only reports, large enough to see something:

    python -m tests.browser.pictures FOLDER
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.stack import PROJECT, Stack

WIDE, NARROW = 1440, 360
HEIGHTS = {WIDE: 960, NARROW: 780}
COLOURS = 255
"""A screen has few colours; a palette makes its picture a third as large."""
TOKENS = PROJECT / "frontend" / "src" / "styles" / "tokens.css"
SETTLES_MS = 1_000

SCREENS = {
    "overview": "/",
    "cluster": "/cluster?selected=INSTANCE",
    "cluster-table": "/cluster?view=table",
    "instances": "/instances",
    "instance": "/instances/INSTANCE",
    "requests": "/requests",
    "requests-finished": "/requests?view=finished&order=age",
    "request": "/requests/REQUEST",
    "migrations": "/migrations?by=pair",
    "scheduling": "/scheduling",
    "policy": "/scheduling/policy",
    "versions": "/scheduling/versions",
    "what-if": "/scheduling/what-if",
    "autoscaling": "/scheduling/autoscaling",
    "tenants": "/tenants",
    "class": "/tenants?class=interactive",
    "tenant": "/tenants/globex-docs",
    "alerts": "/alerts",
    "audit": "/audit?who=all",
    "playground": "/playground",
    "settings": "/settings/profile",
    "settings-rules": "/settings/rules",
    "settings-system": "/settings/system",
}


def go(page: Page, path: str) -> None:
    """As a link does: without loading everything anew."""
    page.evaluate(
        "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
    )
    page.get_by_role("heading", level=1).first.wait_for()


def photograph(page: Page, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(SETTLES_MS)
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.wait_for_timeout(250)
            keep(page.screenshot(), folder / f"{name}-{scheme}-{width}.png")
    page.set_viewport_size({"width": WIDE, "height": HEIGHTS[WIDE]})


def keep(picture: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    packed = np.asarray(image, dtype=np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    numbers, place = np.unique(packed, return_inverse=True)
    colours = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=1)
    palette = palette_of(image)
    away = ((colours[:, None, :].astype(int) - palette[None, :, :]) ** 2).sum(axis=2)
    indices = away.argmin(axis=1).astype(np.uint8)[place.ravel()].reshape(image.size[::-1])
    drawn = Image.fromarray(indices, "P")
    drawn.putpalette(palette.astype(np.uint8).tobytes())
    drawn.save(path, optimize=True)


def palette_of(image: Image.Image) -> np.ndarray:
    """The design's own colours first, so that amber stays amber; then what covers the rest best."""
    tokens = [bytes.fromhex(each) for each in sorted(set(re.findall(r"#([0-9a-f]{6})", TOKENS.read_text())))]
    rest = image.quantize(COLOURS - len(tokens), Image.Quantize.MAXCOVERAGE).getpalette() or []
    return np.array([*b"".join(tokens), *rest][: 3 * COLOURS], dtype=int).reshape(-1, 3)


FLEET_OF_8 = {
    "overview": "/",
    "cluster": "/cluster?selected=main-3",
    "instance": "/instances/main-3",
    "migrations": "/migrations",
    "tenants": "/tenants",
    "request": "/requests/r-finished",
}
WARMS_UP_MS = 15_000


def take_fleet_of_8(folder: Path) -> None:
    """All of them, of one console with a fleet that only reports."""
    from tests.browser.conftest import ARGUMENTS, CHROMIUM, sign_in

    with tempfile.TemporaryDirectory(prefix="llumdeck-pictures-") as state, sync_playwright() as playwright:
        stack = Stack(Path(state), instances=8)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            stack.start()
            page = browser.new_page(viewport={"width": WIDE, "height": HEIGHTS[WIDE]}, color_scheme="dark")
            page.goto(stack.url)
            sign_in(page, "ada")
            page.get_by_role("navigation", name="Pages").wait_for()
            page.wait_for_timeout(WARMS_UP_MS)
            for name, path in FLEET_OF_8.items():
                go(page, path)
                photograph(page, folder, f"fleet-of-8-{name}")
            go(page, "/instances/main-3")
            page.get_by_role("button", name="Drain main-3…").first.click()
            photograph(page, folder, "fleet-of-8-drain")
        finally:
            browser.close()
            stack.stop()


if __name__ == "__main__":
    take_fleet_of_8(Path(sys.argv[1]))
