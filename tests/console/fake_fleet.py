"""A fleet that only reports: realistic messages of agents, a gateway and the loop, from a seed.

For the tests of the console and for looking at its pages without engines:

    python -m tests.console.fake_fleet --redis-url unix:///path/redis.sock

It writes production messages into a real Redis at 4 Hz, nothing else.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import redis

from engine_agents.messages import (
    ClassLatency,
    ClassLoad,
    GatewayStatus,
    InstanceStatus,
    MigrationOutcome,
    RequestInfo,
    StageRecord,
    Waiter,
    encode,
)

BLOCK = 16
BLOCKS = 851
TENANTS = {
    "acme": ("interactive", "standard"),
    "globex": ("standard",),
    "initech": ("standard", "batch"),
    "umbrella": ("batch",),
    "hooli": ("interactive", "standard"),
    "vandelay": ("standard",),
    "soylent": ("standard", "batch"),
    "wonka": ("interactive",),
}
CLASSES = ("interactive", "standard", "batch")


@dataclass
class FakeRequest:
    request_id: str
    tenant: str
    slo_class: str
    prompt_tokens: int
    output_tokens: int
    wanted: int
    arrived_at_s: float
    state: str = "running"
    migration_id: str = ""

    @property
    def blocks(self) -> int:
        return -(-(self.prompt_tokens + self.output_tokens) // BLOCK)


@dataclass
class FakeMove:
    outcome: MigrationOutcome
    request: FakeRequest
    steps: int = 0


@dataclass
class FakeInstance:
    instance_id: str
    share: float
    """Of new requests that come here."""
    running: list[FakeRequest] = field(default_factory=list)
    waiting: list[FakeRequest] = field(default_factory=list)
    reserved: int = 0
    seq: int = 0
    preemptions: int = 0
    accepting: bool = True

    @property
    def used(self) -> int:
        return sum(request.blocks for request in self.running)

    @property
    def free(self) -> int:
        return BLOCKS - self.used - self.reserved


class FakeFleet:
    """``step(now)`` moves the fleet on by a quarter of a second."""

    def __init__(self, *, instances: int = 8, seed: int = 7, pool: str = "main", now: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.pool = pool
        shares = [3.0 if index in (0, 2) else 1.0 for index in range(instances)]
        self.instances = [FakeInstance(f"{pool}-{index + 1}", share) for index, share in enumerate(shares)]
        self.moves: list[FakeMove] = []
        self.queue: list[FakeRequest] = []
        """In front of the fleet: too large for any gap."""
        self.holding = False
        """Nothing leaves the queue (for tests that look at it)."""
        self.standing = False
        """Nothing arrives, decodes, moves or ends (for tests that act on one request)."""
        self.loop_silent_s = 0.0
        """Since when the loop has not ticked."""
        self.serial = 0x7C0000
        self.incarnation = f"inc{seed}-{int(now)}"
        self.tick = 0
        self.now = now
        self._warm(now)

    def _warm(self, now: float) -> None:
        for instance in self.instances:
            goal = BLOCKS * (0.9 if instance.share > 1 else 0.45)
            while instance.used < goal:
                request = self._request(now - self.random.uniform(1, 30))
                request.output_tokens = self.random.randint(1, request.wanted)
                if request.blocks > instance.free:
                    break
                instance.running.append(request)

    def step(self, now: float) -> tuple[list[InstanceStatus], list[MigrationOutcome]]:
        """What agents report in this quarter of a second."""
        self.tick += 1
        self.now = now
        if self.standing:
            return [self._status(instance, now) for instance in self.instances], []
        self._arrive(now)
        self._queue_up(now)
        for instance in self.instances:
            self._decode(instance)
        outcomes = [*self._go_on(now), *self._start_moves(now)]
        return [self._status(instance, now) for instance in self.instances], outcomes

    def requests(self, instance_id: str) -> list[RequestInfo]:
        """The live requests of one instance, as its agent lists them."""
        instance = next(item for item in self.instances if item.instance_id == instance_id)
        return [
            RequestInfo(
                engine_id=f"{request.request_id}#1",
                request_id=request.request_id,
                slo_class=request.slo_class,
                tenant=request.tenant,
                state=request.state,
                prompt_tokens=request.prompt_tokens,
                output_tokens=request.output_tokens,
                blocks=request.blocks,
                arrived_at_s=request.arrived_at_s,
                migration_id=request.migration_id,
            )
            for request in [*instance.running, *instance.waiting]
        ]

    def gateway(self, now: float) -> GatewayStatus:
        wobble = self.random.uniform(0.9, 1.15)
        live = [request for item in self.instances for request in [*item.running, *item.waiting]]
        shapes = {
            "interactive": (142, 431, 41, 46, 0.994, 0.997),
            "standard": (388, 2_910, 45, 63, 0.941, 0.992),
            "batch": (6_200, 24_800, 52, 118, 0.998, None),
        }
        return GatewayStatus(
            gateway_id="gateway-1",
            incarnation="g1",
            pool=self.pool,
            url="http://127.0.0.1:8801",
            reported_at_s=now,
            open_streams=len(live),
            queued=len(self.queue),
            waiters=[self._waiter(place, request, now) for place, request in enumerate(self.queue, 1)],
            per_class=[
                ClassLatency(
                    slo_class=name,
                    requests=120,
                    open=sum(request.slo_class == name for request in live),
                    ttft_p50_ms=shape[0] * wobble,
                    ttft_p99_ms=shape[1] * wobble,
                    tpot_p50_ms=shape[2],
                    tpot_p99_ms=shape[3] * min(wobble, 1.05),
                    ttft_attained=shape[4],
                    tpot_attained=shape[5],
                )
                for name, shape in shapes.items()
            ],
        )

    def _waiter(self, place: int, request: FakeRequest, now: float) -> Waiter:
        needed = (request.blocks + 4) * BLOCK
        return Waiter(
            request_id=request.request_id,
            tenant=request.tenant,
            slo_class=request.slo_class,
            prompt_tokens=request.prompt_tokens,
            needed_tokens=needed,
            waiting_s=now - request.arrived_at_s,
            position=place,
            why=f"no instance has room for {needed:,} tokens" if place == 1 else "behind the first in line",
        )

    def add_large(self, now: float) -> None:
        request = self._request(now)
        request.prompt_tokens, request.wanted = self.random.randint(5_800, 7_400), 200
        self.queue.append(request)

    def _queue_up(self, now: float) -> None:
        """Large requests wait in front of the fleet until a gap appears."""
        if len(self.queue) < 3 and self.random.random() < 0.05:
            self.add_large(now)
        target = max(
            (item for item in self.instances if item.accepting), key=lambda item: item.free, default=None
        )
        if (
            self.queue
            and target
            and not self.holding
            and self.queue[0].blocks + 8 < target.free
            and self.random.random() < 0.08
        ):
            target.running.append(self.queue.pop(0))

    def _request(self, now: float) -> FakeRequest:
        self.serial += self.random.randint(1, 900)
        tenant = self.random.choice(list(TENANTS))
        slo_class = self.random.choice(TENANTS[tenant])
        long = self.random.random() < 0.25
        return FakeRequest(
            request_id=f"r-{self.serial:x}",
            tenant=tenant,
            slo_class=slo_class,
            prompt_tokens=self.random.randint(800, 2_400) if long else self.random.randint(40, 700),
            output_tokens=0,
            wanted=self.random.randint(200, 1_200),
            arrived_at_s=now,
        )

    def _arrive(self, now: float) -> None:
        for _ in range(self.random.choice((0, 0, 0, 0, 1, 1))):
            request = self._request(now)
            open_instances = [item for item in self.instances if item.accepting]
            if not open_instances:
                return
            target = self.random.choices(open_instances, [item.share for item in open_instances])[0]
            if request.blocks + 4 <= target.free and not target.waiting:
                target.running.append(request)
            elif len(target.waiting) < 6:
                request.state = "waiting"
                target.waiting.append(request)

    def _decode(self, instance: FakeInstance) -> None:
        for request in instance.running:
            request.output_tokens += 5
        done = [r for r in instance.running if r.output_tokens >= r.wanted and not r.migration_id]
        instance.running = [request for request in instance.running if request not in done]
        while instance.free < 0:
            victim = next(r for r in reversed(instance.running) if not r.migration_id)
            victim.state = "preempted"
            instance.running.remove(victim)
            instance.waiting.insert(0, victim)
            instance.preemptions += 1
        while instance.waiting and instance.waiting[0].blocks + 4 <= instance.free:
            request = instance.waiting.pop(0)
            request.state = "running"
            instance.running.append(request)

    def _start_moves(self, now: float) -> Iterator[MigrationOutcome]:
        sources = sorted(self.instances, key=lambda item: (item.accepting, item.free))[:2]
        target = max((item for item in self.instances if item.accepting), key=lambda item: item.free)
        for source in sources:
            wanted = source.free < 0.12 * BLOCKS or source.waiting or not source.accepting
            busy = sum(bool(request.migration_id) for request in source.running)
            if not wanted or busy >= 2 or target is source:
                continue
            free = [r for r in source.running if not r.migration_id and r.blocks + 8 < target.free]
            if free:
                yield self._start(self.random.choice(free[-6:]), source, target, now)

    def _start(
        self, request: FakeRequest, source: FakeInstance, target: FakeInstance, now: float
    ) -> MigrationOutcome:
        request.migration_id = f"m-{self.tick}-{request.request_id[-4:]}"
        target.reserved += request.blocks + 8
        outcome = MigrationOutcome(
            migration_id=request.migration_id,
            request_id=request.request_id,
            source_instance_id=source.instance_id,
            destination_instance_id=target.instance_id,
            rule="load" if source.accepting else "drain",
            why=f"shortest of the lowest class, {request.blocks} blocks",
            slo_class=request.slo_class,
            tenant=request.tenant,
            state="copying",
            tokens_at_start=request.prompt_tokens + request.output_tokens,
            at_s=now,
        )
        self.moves.append(FakeMove(outcome, request))
        return outcome

    def _go_on(self, now: float) -> Iterator[MigrationOutcome]:
        for move in list(self.moves):
            move.steps += 1
            outcome = msgspec.structs.replace(move.outcome, at_s=now)
            needed = max(2, move.request.blocks // 16)
            if move.steps == needed:
                blocks = move.request.blocks - 1
                outcome.stages = [_stage(0, blocks, 5 * move.steps)]
            elif move.steps == needed + 1:
                outcome.stages = [*outcome.stages, _stage(1, 1, 1)]
                outcome.state = "freezing"
            elif move.steps >= needed + 2:
                outcome = self._end(move, outcome)
            else:
                continue
            move.outcome = outcome
            yield outcome

    def _end(self, move: FakeMove, outcome: MigrationOutcome) -> MigrationOutcome:
        self.moves.remove(move)
        source = self._named(outcome.source_instance_id)
        target = self._named(outcome.destination_instance_id)
        target.reserved = max(0, target.reserved - move.request.blocks - 8)
        move.request.migration_id = ""
        if self.random.random() < 0.15 or move.request not in source.running:
            outcome.state, outcome.reason = "aborted", "finished"
            if move.request in source.running:
                source.running.remove(move.request)
            return outcome
        source.running.remove(move.request)
        target.running.append(move.request)
        outcome.state = "done"
        outcome.downtime_ms = self.random.uniform(14, 34)
        hand_over = _stage(2, 1, 0)
        hand_over.duration_ms = outcome.downtime_ms
        outcome.stages = [*outcome.stages, hand_over]
        outcome.tokens_moved = move.request.prompt_tokens + move.request.output_tokens
        return outcome

    def _named(self, instance_id: str) -> FakeInstance:
        return next(item for item in self.instances if item.instance_id == instance_id)

    def _status(self, instance: FakeInstance, now: float) -> InstanceStatus:
        instance.seq += 1
        out = [move for move in self.moves if move.outcome.source_instance_id == instance.instance_id]
        into = [move for move in self.moves if move.outcome.destination_instance_id == instance.instance_id]
        step_ms = 22 + 1.4 * len(instance.running) + self.random.uniform(-1, 1)
        return InstanceStatus(
            instance_id=instance.instance_id,
            pool=self.pool,
            incarnation=f"{self.incarnation}-{instance.instance_id}",
            seq=instance.seq,
            reported_at_s=now,
            state="ready",
            accepting=instance.accepting,
            engine="simulated",
            engine_version="0",
            served_model="fake-7b",
            data_endpoint="tcp://127.0.0.1:1",
            peer_endpoint="tcp://127.0.0.1:2",
            block_size_tokens=BLOCK,
            total_blocks=BLOCKS,
            used_blocks=instance.used,
            reserved_blocks=instance.reserved,
            running=len(instance.running),
            waiting=len(instance.waiting),
            per_class=[_load(instance, name) for name in CLASSES],
            head_of_line_blocks=instance.waiting[0].blocks if instance.waiting else 0,
            queued_blocks=sum(request.blocks for request in instance.waiting),
            unprefilled_tokens=0,
            preempted_waiting=sum(request.state == "preempted" for request in instance.waiting),
            preemptions_total=instance.preemptions,
            step_ms=step_ms,
            tokens_per_s=len(instance.running) * 1000 / step_ms,
            migrations_in=len(into),
            migrations_out=len(out),
            migration_slots=4,
            seen={},
            lease_epoch=3,
            kv_bytes_per_token=57_344,
            pid=4_000 + int(instance.instance_id.rsplit("-", 1)[1]),
            host="fake-host",
        )


def _stage(stage: int, blocks: int, tokens: int) -> StageRecord:
    return StageRecord(
        stage=stage, blocks=blocks, bytes=blocks * 917_504, duration_ms=blocks * 6.8, tokens_meanwhile=tokens
    )


def _load(instance: FakeInstance, name: str) -> ClassLoad:
    running = [request for request in instance.running if request.slo_class == name]
    return ClassLoad(
        slo_class=name,
        running=len(running),
        waiting=sum(request.slo_class == name for request in instance.waiting),
        used_blocks=sum(request.blocks for request in running),
    )


class Writer:
    """Puts the fleet's messages where agents, gateways and the loop put theirs."""

    def __init__(self, client: redis.Redis, *, prefix: str = "llumdeck:") -> None:
        self.client = client
        self.prefix = prefix

    def write(self, fleet: FakeFleet, now: float, *, only: set[str] | None = None) -> None:
        statuses, outcomes = fleet.step(now)
        pipeline = self.client.pipeline(transaction=False)
        for status in statuses:
            if only is None or status.instance_id in only:
                pipeline.hset(f"{self.prefix}status", status.instance_id, encode(status))
                pipeline.publish(f"{self.prefix}status", encode(status))
        for outcome in outcomes:
            pipeline.xadd(f"{self.prefix}migrations", {"outcome": encode(outcome)}, maxlen=10_000)
        if fleet.tick % 4 == 1:
            gateway = fleet.gateway(now)
            pipeline.hset(f"{self.prefix}gateways", gateway.gateway_id, encode(gateway))
        pipeline.set(f"{self.prefix}loop:status", self._loop(fleet, now - fleet.loop_silent_s), ex=30)
        for name in self.client.zrangebyscore(f"{self.prefix}watched", now, "+inf"):
            if name.decode() in {item.instance_id for item in fleet.instances}:
                payload = msgspec.msgpack.encode(fleet.requests(name.decode()))
                pipeline.set(f"{self.prefix}requests:{name.decode()}", payload, ex=5)
        pipeline.execute()

    @staticmethod
    def _loop(fleet: FakeFleet, now: float) -> bytes:
        return msgspec.json.encode(
            {
                "leader": "fake-host:1",
                "epoch": 3,
                "tick": fleet.tick,
                "last_tick_at_s": now,
                "tick_ms": 4.2,
                "interval_ms": 200,
                "overruns": 0,
                "instances": len(fleet.instances),
                "commands_refused": 0,
                "degraded": [],
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--prefix", default="llumdeck:")
    parser.add_argument("--instances", type=int, default=8)
    parser.add_argument("--pool", default="main")
    options = parser.parse_args()
    fleet = FakeFleet(instances=options.instances, pool=options.pool, now=time.time())
    writer = Writer(redis.Redis.from_url(options.redis_url), prefix=options.prefix)
    while True:
        writer.write(fleet, time.time())
        time.sleep(0.25)


if __name__ == "__main__":
    main()
