"""Pools, instances, live requests, migrations, rounds."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from console.api.outputs import Json, Shape, data, moment, number, text, time, whole, words, yes
from console.dashboard.directory import migration_row_shape
from controlplane.fleet.models import Instance
from controlplane.rebalancing.models import RebalanceRound, RequestMigration
from controlplane.records.models import Operation


class ClassLoadOutput(Shape):
    slo_class = text()
    running = whole()
    waiting = whole()
    used_blocks = whole()


class InstanceLive(Shape):
    """The instance's last report; null where it does not say."""

    state = text(allow_null=True)
    accepting = yes(allow_null=True)
    incarnation = text(allow_null=True)
    engine = text()
    engine_version = text(allow_null=True)
    served_model = text()
    host = text(allow_null=True)
    pid = whole(allow_null=True)
    block_size_tokens = whole(allow_null=True)
    total_blocks = whole(allow_null=True)
    used_blocks = whole(allow_null=True)
    reserved_blocks = whole(allow_null=True)
    headroom_blocks = whole(allow_null=True)
    freeness = number(allow_null=True, help_text="Tokens per running request; null while it drains.")
    running = whole(allow_null=True)
    waiting = whole(allow_null=True)
    classes = ClassLoadOutput(many=True)
    head_of_line_blocks = whole(allow_null=True)
    queued_blocks = whole(allow_null=True)
    preempted_waiting = whole(allow_null=True)
    preemptions_total = whole(allow_null=True)
    step_ms = number(allow_null=True)
    tokens_per_s = number(allow_null=True)
    migrations_in = whole(allow_null=True)
    migrations_out = whole(allow_null=True)
    migration_slots = whole(allow_null=True)
    kv_bytes_per_token = whole(allow_null=True)
    lease_epoch = whole(allow_null=True)
    heard_at = time(allow_null=True)
    age_s = number(allow_null=True)


class OperationOutput(serializers.ModelSerializer[Operation]):
    """A long action: watch it until ``state`` is no longer ``running``."""

    class Meta:
        model = Operation
        fields = (
            "operation_id",
            "kind",
            "object_type",
            "object_id",
            "state",
            "done",
            "total",
            "note",
            "problem",
            "actor",
            "reason",
            "request_id",
            "created_at",
            "updated_at",
            "finished_at",
        )


class InstanceOutput(serializers.ModelSerializer[Instance]):
    """A row and, in ``live``, its last report (null when none is known)."""

    pool = serializers.CharField(source="pool.name")
    live = serializers.SerializerMethodField()

    class Meta:
        model = Instance
        fields = ("instance_id", "pool", "state", "accepting", "cause", "changed_at", "incarnation",
                  "engine_version", "host", "created_at", "when_drained", "drain_deadline_at", "on_deadline",
                  "operation_id", "pool_revision", "failures", "failure_log", "live")  # fmt: skip

    @extend_schema_field(InstanceLive(allow_null=True))
    def get_live(self, row: Instance) -> Json | None:
        live: dict[str, Any] = self.context.get("live", {})
        return live.get(row.instance_id)


class InstanceActionOutput(InstanceOutput):
    """The instance as it is now, and the operation to watch."""

    operation = serializers.SerializerMethodField()

    class Meta(InstanceOutput.Meta):
        fields = (*InstanceOutput.Meta.fields, "operation")  # type: ignore[assignment]

    @extend_schema_field(OperationOutput(allow_null=True))
    def get_operation(self, row: Instance) -> Json | None:
        operation = self.context.get("operation")
        return None if operation is None else dict(OperationOutput(operation).data)


class ResidentOutput(Shape):
    """One live request on an instance; never its prompt or output."""

    request_id = text()
    engine_id = text()
    tenant = text(allow_blank=True)
    slo_class = text(allow_blank=True)
    state = text()
    prompt_tokens = whole()
    output_tokens = whole()
    blocks = whole()
    arrived_at = time()
    migration_id = text(allow_blank=True)

    def shape(self, item: Any) -> Json:
        facts = {str(name): getattr(item, str(name), None) for name in self.fields}
        return {**facts, "arrived_at": moment(item.arrived_at_s)}


class ResidentsOutput(Shape):
    instance_id = text()
    asked_at = time()
    requests = ResidentOutput(
        many=True, allow_null=True, help_text="Null until fetched: ask again in a second."
    )


class StageOutput(Shape):
    stage = whole()
    blocks = whole()
    bytes = whole()
    duration_ms = number(help_text="Milliseconds.")
    tokens_meanwhile = whole(allow_null=True)


class MigrationOutput(Shape):
    """A request's migration with its stages; the same fields as on the live socket."""

    id = text()
    request_id = text()
    source = text()
    destination = text()
    rule = text()
    why = text(allow_blank=True)
    slo_class = text(allow_blank=True)
    tenant = text(allow_blank=True)
    state = serializers.ChoiceField(choices=RequestMigration.State.choices)
    reason = text(allow_blank=True)
    stages = serializers.ListField(child=serializers.DictField())
    downtime_ms = number(allow_null=True)
    tokens_at_start = whole(allow_null=True)
    tokens_moved = whole(allow_null=True)
    started_at = time()
    updated_at = time()
    ended_at = time(allow_null=True)
    actor = text()

    def shape(self, item: RequestMigration) -> Json:
        shape = migration_row_shape(item)
        return {**shape, **{name: moment(shape[name]) for name in ("started_at", "updated_at", "ended_at")}}


class MigrationWished(MigrationOutput):
    migration_id = text()

    def shape(self, item: RequestMigration) -> Json:
        return {**super().shape(item), "migration_id": item.migration_id}


class MigrationDryRun(Shape):
    """What a manual move would meet now."""

    possible = yes()
    problem = text(allow_blank=True)
    request_id = text()
    source = text()
    destination = text()
    free_tokens_at_destination = whole(allow_null=True)
    needed_tokens = whole(allow_null=True)


class RoundOutput(serializers.ModelSerializer[RebalanceRound]):
    """A round of the loop that decided something."""

    pool = serializers.CharField(source="pool.name")
    policy_version = serializers.IntegerField(source="policy.version", default=None, allow_null=True)
    decisions = serializers.ListField(child=serializers.DictField())
    answers = serializers.ListField(child=serializers.DictField())

    class Meta:
        model = RebalanceRound
        fields = ("id", "pool", "taken_at", "epoch", "tick", "policy_version", "decisions", "answers",
                  "duration_ms")  # fmt: skip


class RoundDetailOutput(RoundOutput):
    """With all that is needed to decide it again."""

    snapshot = serializers.DictField()
    state_before = serializers.DictField()
    config = serializers.DictField()

    class Meta(RoundOutput.Meta):
        fields = (*RoundOutput.Meta.fields, "snapshot", "state_before", "config")  # type: ignore[assignment]


class CandidateOutput(Shape):
    instance_id = text()
    role = serializers.ChoiceField(choices=["chosen", "candidate", "source", "dropped"])
    score = number(allow_null=True)
    freeness_tokens = number(allow_null=True)
    used_tokens = whole()
    reserved_tokens = whole()
    headroom_tokens = whole()
    running = whole()
    waiting = whole()
    reason = text(allow_blank=True)


class ExplanationOutput(Shape):
    """Why a decision followed from what was seen, by the policy core itself."""

    decision = data()
    rule = text()
    sentence = text()
    candidates = CandidateOutput(many=True)
    margin = number(allow_null=True)
    would_change = text(allow_blank=True)
    numbers = data(child=serializers.FloatField())


class LoopOutput(Shape):
    leader = text()
    epoch = whole()
    last_tick_at = time(allow_null=True)


class EngineSeenOutput(Shape):
    """An engine as a gateway sees it; null is unknown."""

    instance_id = text()
    usable = yes()
    age_s = number(allow_null=True)
    running = whole(allow_null=True)
    waiting = whole(allow_null=True)
    used_blocks = whole(allow_null=True)
    total_blocks = whole(allow_null=True)


class ClassLatencyOutput(Shape):
    """Of the last minute; null where nothing finished."""

    slo_class = text()
    requests = whole()
    open = whole()
    ttft_p50_ms = number(allow_null=True)
    ttft_p99_ms = number(allow_null=True)
    tpot_p50_ms = number(allow_null=True)
    tpot_p99_ms = number(allow_null=True)


class GatewayOutput(Shape):
    """A gateway by its report; while Redis is away by its own answer, with the engines that it sees."""

    gateway_id = text()
    url = text()
    problem = text(allow_blank=True, help_text="Why it could not be asked; then all else is null.")
    open_streams = whole(allow_null=True)
    queued = whole(allow_null=True)
    per_class = ClassLatencyOutput(many=True, allow_null=True)
    engines = EngineSeenOutput(many=True, allow_null=True, help_text="Null while Redis answers.")


class ReportedOutput(Shape):
    reported = whole()
    fresh = whole()
    ready = whole()


class DegradedOutput(Shape):
    """What is away: what goes on, what is on hold, what to do."""

    part = text()
    reason = text()
    since = time(allow_null=True)
    works = text(allow_blank=True)
    on_hold = text(allow_blank=True)
    do = text(allow_blank=True)


class HealthOutput(Shape):
    """How the parts are; null for what cannot be known now."""

    asked_directly = yes(help_text="Redis is away: the gateways were asked themselves.")

    database = text()
    redis = text()
    degraded = DegradedOutput(many=True)
    loop = LoopOutput(allow_null=True)
    gateways = GatewayOutput(many=True, allow_null=True)
    instances = ReportedOutput(allow_null=True)


class RequestOutput(Shape):
    """One request, live or finished; never its text."""

    request_id = text()
    tenant = text(allow_blank=True)
    slo_class_asked = text(allow_blank=True, allow_null=True)
    slo_class_served = text(allow_blank=True)
    state = text(help_text="queued, waiting, running, preempted, frozen, arriving, or finished")
    instance = text(allow_null=True)
    prompt_tokens = whole()
    output_tokens = whole()
    blocks = whole(allow_null=True)
    queued_ms = number(allow_null=True)
    ttft_ms = number(allow_null=True)
    tpot_ms = number(allow_null=True)
    moves = whole(allow_null=True)
    recoveries = whole(allow_null=True)
    arrived_at = time()
    finished_at = time(allow_null=True)
    outcome = text(allow_null=True)
    why = text(allow_null=True, help_text="Of a queued request: why it waits.")


class TimelineEntry(Shape):
    at = time()
    kind = text()
    instance = text(allow_null=True)
    migration_id = text(allow_null=True)
    detail = text(allow_blank=True)


class Segment(Shape):
    kind = serializers.ChoiceField(choices=["queued", "prefill", "decode", "downtime"])
    instance = text(allow_null=True)
    begin = time()
    end = time()


class RequestDetailOutput(RequestOutput):
    timeline = TimelineEntry(many=True)
    segments = Segment(many=True)
    migrations = words(help_text="Ids of its migrations, oldest first.")


class CommandOutput(Shape):
    """What the gateway that owns the request said."""

    request_id = text()
    done = yes()
    detail = text(allow_blank=True)
