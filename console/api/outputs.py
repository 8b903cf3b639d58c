"""What the API answers. Times are RFC 3339 in UTC; absent is null, never 0."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from console.dashboard.directory import migration_row_shape
from controlplane.fleet.models import Instance
from controlplane.rebalancing.models import RebalanceRound, RequestMigration
from controlplane.records.models import AuditEntry
from controlplane.tenancy.models import SLOClass, Tenant
from engine_agents.messages import RequestInfo

Json = dict[str, Any]


def moment(seconds: float | None) -> str | None:
    """Unix seconds as ``2026-11-21T03:12:06.250Z``."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class InstanceOutput(serializers.ModelSerializer[Instance]):
    """A row and, in ``live``, its last report (null when none is known); see ``context["live"]``."""

    pool = serializers.CharField(source="pool.name")
    live = serializers.SerializerMethodField()

    class Meta:
        model = Instance
        fields = ("instance_id", "pool", "state", "accepting", "cause", "changed_at", "incarnation",
                  "engine_version", "host", "created_at", "live")  # fmt: skip

    def get_live(self, row: Instance) -> Json | None:
        live: Json = self.context.get("live", {})
        return live.get(row.instance_id)


class RequestOutput(serializers.Serializer[RequestInfo]):
    """One live request on an instance; never its prompt or output."""

    def to_representation(self, item: RequestInfo) -> Json:
        return {
            "request_id": item.request_id,
            "engine_id": item.engine_id,
            "tenant": item.tenant,
            "slo_class": item.slo_class,
            "state": item.state,
            "prompt_tokens": item.prompt_tokens,
            "output_tokens": item.output_tokens,
            "blocks": item.blocks,
            "arrived_at": moment(item.arrived_at_s),
            "migration_id": item.migration_id,
        }


class MigrationOutput(serializers.Serializer[RequestMigration]):
    """A request's migration with its stages; the same fields as on the live socket."""

    def to_representation(self, row: RequestMigration) -> Json:
        shape = migration_row_shape(row)
        return {**shape, **{name: moment(shape[name]) for name in ("started_at", "updated_at", "ended_at")}}


class TenantOutput(serializers.ModelSerializer[Tenant]):
    """A tenant with its valid keys' number and, in ``recent``, its usage of the last minutes."""

    slo_class = serializers.CharField(source="slo_class.name")
    allowed_classes = serializers.SerializerMethodField()
    keys = serializers.SerializerMethodField()
    recent = serializers.SerializerMethodField()

    class Meta:
        model = Tenant
        fields = ("slug", "name", "slo_class", "allowed_classes", "active", "keys", "created_at", "recent")

    def get_keys(self, row: Tenant) -> int | None:
        return getattr(row, "valid_keys", None)

    def get_allowed_classes(self, row: Tenant) -> list[str]:
        return sorted({row.slo_class.name, *(each.name for each in row.allowed_classes.all())})

    def get_recent(self, row: Tenant) -> Json:
        usage: dict[int, Json] = self.context.get("usage", {})
        return usage.get(
            row.pk, {"requests": 0, "prompt_tokens": 0, "output_tokens": 0, "ttft_mean_ms": None}
        )


class ClassOutput(serializers.ModelSerializer[SLOClass]):
    class Meta:
        model = SLOClass
        fields = ("name", "rank", "ttft_target_ms", "tpot_target_ms", "target_load_tokens", "service_tier")


class AuditOutput(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = ("id", "at", "actor", "action", "object_type", "object_id", "before", "after", "reason",
                  "request_id", "address")  # fmt: skip


class RoundOutput(serializers.ModelSerializer[RebalanceRound]):
    """A round of the loop that decided something."""

    pool = serializers.CharField(source="pool.name")
    policy_version = serializers.IntegerField(source="policy.version", default=None)

    class Meta:
        model = RebalanceRound
        fields = ("id", "pool", "taken_at", "epoch", "tick", "policy_version", "decisions", "answers",
                  "duration_ms")  # fmt: skip


class RoundDetailOutput(RoundOutput):
    """With all that is needed to decide it again."""

    class Meta(RoundOutput.Meta):
        fields = (*RoundOutput.Meta.fields, "snapshot", "state_before", "config")  # type: ignore[assignment]
