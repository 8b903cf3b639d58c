"""The console's routes, read from its router, so that a walk over all pages can forget none."""

from __future__ import annotations

import re
from pathlib import Path

from tests.browser.stack import PROJECT

SOURCES = PROJECT / "frontend" / "src"
ROUTE = re.compile(r"<Route\s+path=\"([^\"]+)\"\s+element=\{<(\w+)|<Route\s+(index)\s+element=\{<(\w+)")
REDIRECTS = frozenset({"Navigate"})
NOWHERE = "/nowhere"


def routes_of(router: Path) -> set[str]:
    """Every path of this router and of those it leads to; a parameter stays ``:name``, all others are
    :data:`NOWHERE`. Pages that only lead on are left out.
    """
    found: set[str] = set()
    for path, page, index, index_page in ROUTE.findall(router.read_text()):
        name = page or index_page
        if name in REDIRECTS:
            continue
        if path.endswith("/*"):
            inner = SOURCES / "pages" / f"{name}.tsx"
            root = path.removesuffix("/*")
            children = routes_of(inner) if inner.exists() else {":any"}
            found |= {root if child == "" else f"{root}/{child}" for child in children}
        else:
            found.add("" if index else NOWHERE if path == "*" else path)
    return found


def is_visited(route: str, paths: list[str]) -> bool:
    """Whether one of ``paths`` (as in a browser, with any query and hash) is a page of this route."""
    pattern = re.compile(re.sub(r":\w+", "[^/]+", route))
    return any(pattern.fullmatch(re.split("[?#]", path)[0]) for path in paths)
