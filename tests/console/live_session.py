"""A recorded session of the live protocol: what the real hub sends while a fleet lives for a few seconds.

The page's reducer is tested against it (``frontend/src/live/reducer.test.ts``), and a test here fails
when the hub no longer sends exactly this. Record again with
``manage.py shell -c "from tests.console.live_session import main; main()"``.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from console.dashboard.state import LiveState
from console.dashboard.watch import Watcher
from controlplane.events.schema import AuditAdded
from controlplane.rebalancing.types import LoopStatus
from tests.console.fake_fleet import FakeFleet
from tests.console.hub_by_hand import START_S, HubByHand, directory_of, frame, frame_if_any

RECORDING = Path(__file__).resolve().parents[2] / "frontend" / "src" / "live" / "fixtures" / "session.json"
LOOKS = 48
NAMES = ["main-1", "main-2", "main-3", "main-9"]
KEPT_MOVES = 3
TOPICS = frozenset({"requests"})
SHOWN_REQUESTS = 3


async def record() -> dict[str, Any]:
    """Frames of one client, and what another that connects at the end is given."""
    by_hand = HubByHand(directory_of(NAMES))
    by_hand.hub.watcher = Watcher(LiveState(kept_final_migrations=KEPT_MOVES))
    fleet = FakeFleet(instances=3, seed=11, now=START_S)
    client = by_hand.client()
    client.subscribe(TOPICS)
    frames = []
    for number in range(LOOKS):
        _play(by_hand, fleet, number)
        await by_hand.look()
        if (sent := frame_if_any(client)) is not None:
            frames.append(sent)
    other = by_hand.client()
    other.subscribe(TOPICS)
    return {"frames": frames, "fresh": await frame(other)}


def _play(by_hand: HubByHand, fleet: FakeFleet, number: int) -> None:
    """Everything a client can see: arrivals, moves, a silent agent, a lost Redis, a stopped instance."""
    statuses, outcomes = fleet.step(by_hand.now)
    by_hand.source.away = number in (20, 21)
    if number in (35, 40):
        fleet.add_large(by_hand.now)
    by_hand.report(*(status for status in statuses if number < 25 or status.instance_id != "main-2"))
    by_hand.source.outcomes.extend(outcomes)
    by_hand.source.detail = {
        item.instance_id: fleet.requests(item.instance_id)[:SHOWN_REQUESTS] for item in fleet.instances
    }
    if number % 10 == 5:
        by_hand.source.events.append(_audited(number, by_hand.now))
    if number % 4 == 0:
        by_hand.report_gateway(fleet.gateway(by_hand.now))
    by_hand.source.loop = LoopStatus(
        leader="host:1",
        epoch=3,
        tick=number,
        last_tick_at_s=by_hand.now,
        tick_ms=4.0,
        interval_ms=200,
        overruns=0,
        instances=3,
        commands_refused=0,
    )
    if number == 30:
        by_hand.directory = directory_of(NAMES[:3], tenants=["acme", "globex", "initech"])


def _audited(number: int, at_s: float) -> AuditAdded:
    return AuditAdded(
        at_s=at_s, entry_id=number, actor="olga", action="drain", object_type="instance", object_id="main-1"
    )


def main() -> None:
    RECORDING.parent.mkdir(parents=True, exist_ok=True)
    session = asyncio.run(record())
    RECORDING.write_text(json.dumps(session, separators=(",", ":")) + "\n")
    print(f"{RECORDING}: {len(session['frames'])} frames, {RECORDING.stat().st_size:,} bytes")
