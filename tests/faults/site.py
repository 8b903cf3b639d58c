"""A whole data plane under test: the real gateway here, agents in processes of their own, Redis between."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import redis
from django.test import override_settings

from controlplane.gateway.entries import Entry
from controlplane.gateway.fleet_view import FleetView, StatusFeed
from controlplane.gateway.live_requests import LiveRequest
from controlplane.scheduling.config import SchedulingConfig
from engine_agents.config import AgentConfig
from engine_agents.messages import InstanceStatus, MigrateOut, MigrationOutcome, split_engine_id
from tests.faults.agents import Agent, AgentGoneError, Nursery, wait_until
from tests.faults.load import LIMIT_S, Answer, Ask, Clients, Load
from tests.faults.relay import Relay
from tests.gateway.harness import MODEL, POOL, Build, Fleet, LoopThread

NAMES = ("a", "b", "c")
KV_MEMORY_BYTES = 64 * 2**20
LOAD_LIMIT_S = LIMIT_S + 30.0
RESERVATION_TTL_S = 3.0
TOKENS_TO_COPY = 70
"""Two full blocks: a request with less moves in one message."""
# Small batches: long prompts are prefilled in chunks, seeded ones too.
ENGINE_ARGS: dict[str, dict[str, Any]] = {
    "vllm": {"max_model_len": 2048, "block_size": 32, "max_num_batched_tokens": 256},
    "paced": {"base_step_ms": 8.0, "per_sequence_ms": 0.1, "per_prefill_token_ms": 0.01},
}


class Site(Fleet):
    """Agents ``a``, ``b``, ``c`` behind one gateway. What is killed is replaced under the same name."""

    def __init__(self, kind: str, model: Path, build_front: Build, redis_url: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self._model = model
        self._redis_url, self._prefix = redis_url, f"faults-{kind}:"
        self._settings = override_settings(REDIS_URL=redis_url, REDIS_PREFIX=self._prefix)
        self._settings.enable()
        self.redis = redis.Redis.from_url(redis_url)
        self.nursery = Nursery(folder, kind)
        self.procs: dict[str, Agent] = {}
        self.relays: list[Relay] = []
        self._numbers = itertools.count(1)
        self.epoch = 1
        super().__init__(str(model), build_front, {"max_model_len": 2048, "dtype": "float32"})
        # So that every instance has something to lose, however old the reports.
        self.rules = replace(self.rules, config=SchedulingConfig(policy="least_outstanding"))
        self.loop.call(self.gateway.router.reconfigure, self.rules.config, {})
        self._clients_loop = LoopThread()
        self.clients = Clients(self.url)

    async def _follow_fleet(self, view: FleetView, on_change: Callable[[], None]) -> None:
        await StatusFeed(view, time.monotonic, time.time, on_change).run()

    # ---------------------------------------------------------------- agents

    def config(self, name: str, **changes: Any) -> AgentConfig:
        settings: dict[str, Any] = {
            "instance_id": name,
            "pool": POOL,
            "served_model": MODEL,
            "model": str(self._model) if self.kind == "vllm" else "paced",
            "redis_url": self._redis_url,
            "redis_prefix": self._prefix,
            "engine": self.kind,
            "engine_args": ENGINE_ARGS[self.kind],
            "kv_memory_bytes": KV_MEMORY_BYTES,
            "migration_slots": 4,
            "stage_timeout_s": 3.0,
            "commit_timeout_s": 1.0,
            "reservation_ttl_s": RESERVATION_TTL_S,
            "failpoints": "permitted",
        }
        return AgentConfig(**{**settings, **changes})

    def cast(self, count: int, rng: random.Random) -> list[str]:
        """So many agents that serve; the dead are being replaced meanwhile, the stopped go on."""
        for name in NAMES:
            agent = self.procs.get(name)
            if agent is None or not agent.alive():
                self.start(name)
        wait_until(lambda: len(self.ready()) >= count, f"{count} agents to serve")
        chosen = rng.sample(self.ready(), count)
        self.wait_usable(*chosen)
        return chosen

    def start(self, name: str) -> Agent:
        """A new process; returns at once."""
        self.procs[name] = self.nursery.start(name, self.config(name))
        return self.procs[name]

    def ready(self) -> list[str]:
        return [name for name, agent in sorted(self.procs.items()) if agent.ready()]

    def wait_usable(self, *names: str) -> None:
        for name in names:
            incarnation = self.procs[name].ask("describe")["incarnation"]
            self.wait_for(lambda name=name, known=incarnation: self._linked(name) == known)

    def _linked(self, name: str) -> str:
        link = self.gateway.links._links.get(name)
        return link.ready.incarnation if link is not None and link.ready is not None else ""

    def relay_to(self, target: str) -> Relay:
        """Between two parties; closed after the trial."""
        relay = Relay(target)
        self.relays.append(relay)
        return relay

    def status(self, name: str) -> InstanceStatus:
        raw = self.redis.hget(f"{self._prefix}status", name)
        return msgspec.msgpack.decode(raw, type=InstanceStatus)

    # ---------------------------------------------------------------- requests and moves

    def entries(self) -> list[Entry]:
        return self.loop.call(lambda: list(self.gateway.journal))

    def live(self) -> dict[str, LiveRequest]:
        return self.loop.call(lambda: dict(self.gateway._lives))

    def pick(self, rng: random.Random, owner: str, *, tokens: tuple[int, int] = (1, 150)) -> Entry:
        """A request that this instance runs, with so many tokens made. Waits until there is one."""
        found: list[Entry] = []

        def there_is() -> bool:
            if not self.procs[owner].alive():
                raise AgentGoneError(f"{owner} runs nothing any more")
            least, most = tokens
            found[:] = [
                live.entry
                for live in self.live().values()
                if live.entry.owner_id == owner
                and live.entry.pending is None
                and least <= len(live.entry.tokens) <= most
                and live.new.prompt_tokens + len(live.entry.tokens) >= TOKENS_TO_COPY
            ]
            return bool(found)

        wait_until(there_is, f"a request on {owner} with {tokens} tokens", limit_s=60)
        return rng.choice(sorted(found, key=lambda entry: entry.request_id))

    def command(self, entry: Entry, source: str, to: str, *, via: Relay | None = None, **more: Any) -> str:
        """Tell the source to move it; the migration's id. Raises ``ValueError`` when it is refused."""
        migration_id = f"m{next(self._numbers)}"
        endpoint = via.endpoint if via is not None else self.procs[to].ask("describe")["peer_endpoint"]
        command = MigrateOut(
            migration_id=migration_id,
            destination_instance_id=to,
            destination_peer_endpoint=endpoint,
            rule="manual",
            lease_epoch=self.epoch,
            budget_tokens=100_000,
            request_id=entry.request_id,
            **more,
        )
        answer = self.procs[source].migrate_out(command)
        if not answer.planned:
            raise ValueError(answer.reason)
        return migration_id

    def outcome(self, migration_id: str, limit_s: float = 60.0) -> MigrationOutcome:
        """How a migration ended, from the stream that the control plane reads."""
        found: list[MigrationOutcome] = []

        def ended() -> bool:
            found[:] = [one for one in self.outcomes(migration_id) if one.state in ("done", "aborted")]
            return bool(found)

        wait_until(ended, f"the end of migration {migration_id}", limit_s)
        return found[0]

    def outcomes(self, migration_id: str) -> list[MigrationOutcome]:
        rows: Any = self.redis.xrange(f"{self._prefix}migrations")
        made = [
            msgspec.msgpack.decode(value, type=MigrationOutcome) for _, row in rows for value in row.values()
        ]
        return [one for one in made if one.migration_id == migration_id]

    # ---------------------------------------------------------------- load

    def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """One after the other: nothing disturbs anything."""
        return [self._clients_loop.run(self.clients.one(Answer(ask))) for ask in asks]

    def stream_one(self, answer: Answer) -> Future[Answer]:
        """One more stream in the background; cancelling it closes its connection."""
        return asyncio.run_coroutine_threadsafe(self.clients.one(answer), self._clients_loop.loop)

    @contextmanager
    def streaming(self, asks: Sequence[Ask], *, lasting: bool = False) -> Iterator[Load]:
        """All at once in the background, again and again if ``lasting``; on leaving all have ended."""
        load = Load(self.clients, asks, lasting=lasting)
        running = asyncio.run_coroutine_threadsafe(load.run(), self._clients_loop.loop)
        try:
            yield load
            self.let_end(load)
            running.result(LOAD_LIMIT_S)
        finally:
            running.cancel()

    def let_end(self, load: Load) -> None:
        """No stream follows those that are open."""
        self._clients_loop.call(load.let_end)

    def pace(self, least_ms: float) -> None:
        """How long steps of real engines take at least; 0: as fast as they go."""
        for name in self.ready():
            with suppress(AgentGoneError):
                self.procs[name].ask("pace", least_ms)

    # ---------------------------------------------------------------- what is left

    def held(self) -> dict[str, dict[str, int]]:
        """What each living agent still holds; empty when all is back."""
        found = {}
        for name in self.ready():
            agent = self.procs[name]
            try:
                load = agent.ask("load")
            except AgentGoneError:
                found[name] = {"silent": 1}
                continue
            names = ("used_blocks", "reserved_blocks", "running", "waiting", "arriving", "outgoing", "live")
            left = {key: load[key] for key in names if load[key]}
            if left:
                found[name] = left
        return found

    def owners(self) -> dict[str, list[str]]:
        """By request: where it runs or waits to run (not: frozen, arriving)."""
        found: dict[str, list[str]] = {}
        for name in self.ready():
            for row in self.procs[name].ask("requests"):
                if row["state"] in ("running", "waiting", "preempted"):
                    request_id = split_engine_id(row["engine_id"])[0]
                    found.setdefault(request_id, []).append(name)
        return found

    def disarm(self) -> None:
        """Whatever a trial has set up is over."""
        for relay in self.relays:
            relay.close()
        self.relays.clear()
        for agent in self.procs.values():
            if agent.alive() and agent.is_stopped():
                agent.go_on()
        for name in self.ready():
            with suppress(AgentGoneError):
                self.procs[name].arm("")
                self.procs[name].ask("repair")

    def close(self) -> None:
        self.disarm()
        super().close()
        self._clients_loop.close()
        self.nursery.close()
        self.redis.close()
        self._settings.disable()

    def logs(self) -> str:
        """For people, after a failure."""
        lines = []
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_text(errors="replace")
            lines.append(f"=== {path.name}\n{text[-3000:]}")
        return "\n".join(lines)
