"""A fleet over a real Ray with the loop and the jobs driven by hand, and a load that must not notice."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from controlplane.fleet import live_status
from controlplane.fleet.models import Instance
from controlplane.fleet.progress import follow_operations
from controlplane.fleet.ray_agents import RayAgentClient, cluster_nodes
from controlplane.fleet.reconciliation import reconcile
from controlplane.fleet.reports import Limits
from controlplane.fleet.rolling import advance_rolling_restarts
from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop
from controlplane.records.models import Operation
from engine_agents.messages import InstanceStatus
from tests.engine_agents.harness import BareGateway, undisturbed
from tests.faults.matrix import Trial

PATIENCE_S = 180.0
JOBS_EVERY_S = 0.3
PROMPT_TOKENS = 150


class RayFleet:
    """What Celery's workers do, on the test's thread."""

    def __init__(self) -> None:
        self.agents = RayAgentClient()
        self.load: Load | None = None
        self.problem = ""
        """Why the jobs could not ask Ray when they last ran."""
        self._jobs_at_s = 0.0
        self.lead_anew()

    def lead_anew(self) -> None:
        """As when every process of the control plane was started again."""
        self.agents = RayAgentClient()
        limits = Limits(stale_s=3.0, dead_s=6.0)
        loop_settings = LoopSettings(command_timeout_s=20.0, lease_ttl_ms=600_000, limits=limits)
        if hasattr(self, "loop"):
            self.loop.resign(now=_now())
        self.loop = RebalancingLoop(owner="test", agents=self.agents, settings=loop_settings)
        assert self.loop.lead(now_s=time.monotonic(), now=_now())

    def tick(self) -> None:
        self.loop.tick(now_s=time.monotonic(), now=_now())
        if self.load is not None:
            self.load.see(self.statuses())
        if time.monotonic() - self._jobs_at_s >= JOBS_EVERY_S:
            self.jobs()

    def jobs(self, now: datetime | None = None) -> None:
        moment = now or _now()
        advance_rolling_restarts(now=moment)
        timeout_s = settings.AGENT_START_TIMEOUT_S
        self.problem = reconcile(agents=self.agents, start_timeout_s=timeout_s, now=moment)
        follow_operations(reports=self.statuses(), now=moment)
        self._jobs_at_s = time.monotonic()

    @property
    def alarm(self) -> str:
        """What the jobs tell of Ray."""
        return cluster_nodes()[1]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline_s = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline_s, f"waited in vain for {what}: {self.causes()}"
            self.tick()
            time.sleep(0.05)
        return found

    def go_on(self, seconds: float) -> None:
        """Do what is done all the time, for so long."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.tick()
            time.sleep(0.05)

    def until_states(self, **wanted: str) -> None:
        """By instance id with ``_`` for ``-``."""
        names = {name.replace("_", "-"): state for name, state in wanted.items()}
        self.until(lambda: names.items() <= self.states().items(), str(names))

    def until_done(self, operation_id: str) -> Operation:
        def ended() -> Operation | None:
            row = Operation.objects.get(operation_id=operation_id)
            return row if row.is_final else None

        found = self.until(ended, f"the end of {operation_id}")
        assert isinstance(found, Operation)
        return found

    def states(self) -> dict[str, str]:
        return dict(Instance.objects.values_list("instance_id", "state"))

    def causes(self) -> list[tuple[str, str, str]]:
        return list(Instance.objects.values_list("instance_id", "state", "cause"))

    def statuses(self) -> dict[str, InstanceStatus]:
        return {each.status.instance_id: each.status for each in live_status.read_statuses(time.time())}

    def pids(self) -> dict[str, int]:
        return {name: status.pid for name, status in self.statuses().items()}

    def stop_all(self) -> None:
        self.agents.stop(list(Instance.objects.values_list("instance_id", flat=True)), grace_s=0.0)


class Load:
    """So many requests open at all times on whatever takes work; each must give every token exactly once."""

    def __init__(self, *, open_at_once: int, tokens: int, seed: int) -> None:
        self.open_at_once, self.tokens = open_at_once, tokens
        self._random = random.Random(seed)
        self._prompts: dict[str, list[int]] = {}
        self.names: list[str] = []
        self._usable: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._problem: BaseException | None = None
        self._thread.start()

    def see(self, statuses: Mapping[str, InstanceStatus]) -> None:
        """What a gateway reads from Redis."""
        self._usable = {
            name: status.data_endpoint
            for name, status in statuses.items()
            if status.state == "ready" and status.accepting
        }

    @property
    def tokens_seen(self) -> int:
        return sum(len(tokens) for tokens in self.gateway.tokens.values())

    def end(self, trial: Trial) -> None:
        """Let what is open finish and look at every token of every request."""
        self._ending.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"the load does not come to its end: {self._progress()}"
        if self._problem is not None:
            raise self._problem
        trial.requests += len(self.names)
        trial.duplicated += len(self.gateway.duplicates)
        for name in self.names:
            expected = undisturbed(name, self.tokens, self._prompts[name])
            got = self.gateway.tokens[name]
            trial.lost += sum(position not in got for position in range(len(expected)))
            trial.wrong += sum(got.get(position, token) != token for position, token in enumerate(expected))

    def _progress(self) -> dict[str, Any]:
        """Of what is still open: its dispatch, how many tokens it has, and who refused it why."""
        return {
            "usable": self._usable,
            "open": {
                name: (self.gateway.owner.get(name), len(self.gateway.tokens[name])) for name in self._open()
            },
            "refused": {name: refused.reason for name, refused in self.gateway.refused.items()},
        }

    def give_up(self) -> None:
        """The test is over, however it went."""
        self._ending.set()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._drive())
        except BaseException as error:
            self._problem = error

    async def _drive(self) -> None:
        self.gateway = BareGateway()
        while not self._ending.is_set():
            await self._fill()
            await asyncio.sleep(0.02)
        while self._open():
            await self._again()
            await asyncio.sleep(0.02)
        await self.gateway.close()

    def _open(self) -> list[str]:
        return [name for name in self.names if name not in self.gateway.finished]

    async def _fill(self) -> None:
        await self._again()
        for _ in range(self.open_at_once - len(self._open())):
            place = await self._place()
            if place is None:
                return
            name = f"r-{len(self.names)}"
            self.names.append(name)
            self._prompts[name] = [self._random.randrange(200) for _ in range(PROMPT_TOKENS)]
            await self.gateway.add(place, name, self._prompts[name], max_tokens=self.tokens)

    async def _again(self) -> None:
        """A refused request goes elsewhere under its next dispatch, as a gateway's does."""
        for refused in list(self.gateway.refused):
            name, _, dispatch = refused.rpartition("#")
            place = await self._place()
            if place is None:
                return
            del self.gateway.refused[refused]
            if int(dispatch) == self.gateway.owner.get(name):
                prompt, tokens = self._prompts[name], self.tokens
                await self.gateway.add(place, name, prompt, dispatch=int(dispatch) + 1, max_tokens=tokens)

    async def _place(self) -> str | None:
        for name, endpoint in list(self._usable.items()):
            if self._links.get(name) != endpoint:
                await self.gateway.connect(endpoint)
                self._links[name] = endpoint
        names = sorted(self._usable)
        return names[len(self.names) % len(names)] if names else None


def _now() -> datetime:
    return datetime.now(tz=UTC)
