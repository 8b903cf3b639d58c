"""Pictures of every screen of the real system: both themes, 1440 and 360 px wide, small enough to be kept."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

WIDE, NARROW = 1440, 360
HEIGHTS = {WIDE: 960, NARROW: 780}
COLOURS = 255
"""A screen has few colours; a palette that keeps rare ones makes its picture a third as large."""
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
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
