"""What the hub sends is what the protocol declares, and the page's types are made from it."""

from __future__ import annotations

import msgspec
import pytest

from console.dashboard import protocol, typescript
from tests.console.live_session import record

PARTS = {
    "instances": protocol.Instance,
    "gateways": protocol.Gateway,
    "classes": protocol.SloClass,
    "migrations": protocol.Migration,
    "residents": protocol.Resident,
    "events": protocol.FeedEvent,
    "queue": protocol.Waiter,
}


def test_the_pages_types_are_those_of_the_protocol_and_the_events():
    assert typescript.TARGET.read_text() == typescript.render(), (
        "run `python -m console.dashboard.typescript` and commit the file"
    )


async def test_every_part_of_a_snapshot_has_exactly_the_declared_fields():
    state = (await record())["fresh"]["state"]
    for part, declared in PARTS.items():
        assert state[part], f"the recorded session never shows {part}"
        for item in state[part]:
            assert set(item) == set(declared.__annotations__), part
            msgspec.convert(item, declared, strict=True)
    assert set(state) == set(protocol.Snapshot.__annotations__)


@pytest.mark.parametrize(
    ("hint", "wanted"),
    [
        (list[int], "number[]"),
        (list[float | None], "(number | null)[]"),
        (dict[str, list[str]], "Record<string, string[]>"),
        (str | None, "string | null"),
        (protocol.Stage, "Stage"),
    ],
)
def test_types_are_translated(hint, wanted):
    assert typescript.typescript(hint) == wanted


def test_a_type_without_a_counterpart_is_refused():
    with pytest.raises(typescript.UnknownTypeError, match="bytes"):
        typescript.typescript(bytes)
