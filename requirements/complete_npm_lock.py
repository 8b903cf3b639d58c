"""Name every platform's optional binary in ``frontend/package-lock.json``.

npm leaves out of the lock what the registry in use does not hold (a mirror may lack the
binaries of other systems), and ``npm ci`` then refuses the lock everywhere, also where
none of them is wanted. An entry with its version and platform is enough; where such a
binary is wanted, npm fetches it by that version. Part of ``make lock``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "frontend" / "package-lock.json"
PLATFORM_FIELDS = ("dev", "license", "engines")


def missing_entries(packages: dict[str, Any]) -> dict[str, Any]:
    """Lock entries that optional dependencies name and ``packages`` lacks."""
    found = {}
    for package in list(packages.values()):
        for name, version in package.get("optionalDependencies", {}).items():
            key = f"node_modules/{name}"
            if key not in packages and name != package.get("name"):
                found[key] = entry_of(name, version, package)
    return found


def entry_of(name: str, version: str, parent: dict[str, Any]) -> dict[str, Any]:
    """Platform packages are named ``…-<os>-<cpu>`` or ``…-linux-<cpu>-<libc>``."""
    words = name.rsplit("/", 1)[-1].split("-")
    system = next(
        i for i, word in enumerate(words) if word in {"android", "darwin", "linux", "win32", "freebsd"}
    )
    entry = {"version": version, "os": [words[system]], "cpu": [words[system + 1]], "optional": True}
    if "musl" in words:
        entry["libc"] = ["musl"]
    return entry | {field: parent[field] for field in PLATFORM_FIELDS if field in parent}


def main() -> None:
    lock = json.loads(LOCK.read_text())
    added = missing_entries(lock["packages"])
    lock["packages"] = dict(sorted({**lock["packages"], **added}.items()))
    LOCK.write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n")
    print(f"frontend/package-lock.json: {len(added)} optional platform packages added")


if __name__ == "__main__":
    main()
