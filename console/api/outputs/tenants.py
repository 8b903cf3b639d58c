"""Tenants, their keys, members, limits, boosts and usage; SLO classes."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from console.api.outputs import Json, Shape, number, text, whole, yes
from controlplane.tenancy.models import ApiKey, Boost, Membership, Quota, SLOClass, Tenant


class RecentUsage(Shape):
    """What finished in the last 15 minutes."""

    requests = whole()
    prompt_tokens = whole()
    output_tokens = whole()
    ttft_mean_ms = number(allow_null=True)


NO_USAGE: Json = {"requests": 0, "prompt_tokens": 0, "output_tokens": 0, "ttft_mean_ms": None}


def class_name_of(source: str) -> Any:
    return serializers.CharField(source=source, default=None, allow_null=True)


class TenantOutput(serializers.ModelSerializer[Tenant]):
    """A tenant with its valid keys' number and, in ``recent``, its usage of the last minutes."""

    slo_class = serializers.CharField(source="slo_class.name")
    allowed_classes = serializers.SerializerMethodField()
    maximum_class = class_name_of("maximum_class.name")
    keys = serializers.SerializerMethodField()
    recent = serializers.SerializerMethodField()

    class Meta:
        model = Tenant
        fields = ("slug", "name", "description", "slo_class", "allowed_classes", "maximum_class",
                  "refuse_above_maximum", "weight", "active", "keys", "created_at", "recent")  # fmt: skip

    def get_keys(self, row: Tenant) -> int | None:
        return getattr(row, "valid_keys", None)

    def get_allowed_classes(self, row: Tenant) -> list[str]:
        return sorted({row.slo_class.name, *(each.name for each in row.allowed_classes.all())})

    @extend_schema_field(RecentUsage)
    def get_recent(self, row: Tenant) -> Json:
        usage: dict[int, Json] = self.context.get("usage", {})
        return usage.get(row.pk, NO_USAGE)


def tenant_state(row: Tenant) -> Json:
    """What can be edited of a tenant: its ETag is of this."""
    volatile = {"keys", "recent"}
    return {name: value for name, value in TenantOutput(row).data.items() if name not in volatile}


class ClassOutput(serializers.ModelSerializer[SLOClass]):
    class Meta:
        model = SLOClass
        fields = ("name", "description", "rank", "ttft_target_ms", "tpot_target_ms", "target_load_tokens",
                  "service_tier", "colour")  # fmt: skip


class KeyOutput(serializers.ModelSerializer[ApiKey]):
    """A tenant's key, without the key."""

    tenant = serializers.CharField(source="tenant.slug")
    scopes = serializers.ListField(child=serializers.CharField())
    networks = serializers.ListField(child=serializers.CharField())
    slo_class = class_name_of("slo_class.name")
    allowed_classes = serializers.SerializerMethodField()
    maximum_class = class_name_of("maximum_class.name")
    replaces = serializers.IntegerField(source="replaces_id", allow_null=True)
    valid = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = ("id", "tenant", "name", "prefix", "scopes", "networks", "slo_class", "allowed_classes",
                  "maximum_class", "created_at", "created_by", "expires_at", "revoked_at", "last_used_at",
                  "last_used_from", "replaces", "valid")  # fmt: skip

    def get_allowed_classes(self, row: ApiKey) -> list[str]:
        return sorted(each.name for each in row.allowed_classes.all())

    def get_valid(self, row: ApiKey) -> bool:
        return row.is_valid(now=timezone.now())


class KeyIssued(KeyOutput):
    key = serializers.SerializerMethodField(help_text="The key itself, shown once.")

    class Meta(KeyOutput.Meta):
        fields = (*KeyOutput.Meta.fields, "key")  # type: ignore[assignment]

    def get_key(self, row: ApiKey) -> str | None:
        raw: str | None = self.context.get("raw")
        return raw


def key_state(row: ApiKey) -> Json:
    volatile = {"last_used_at", "last_used_from", "valid"}
    return {name: value for name, value in KeyOutput(row).data.items() if name not in volatile}


class MemberOutput(serializers.ModelSerializer[Membership]):
    username = serializers.CharField(source="user.username")
    active = serializers.BooleanField(source="user.is_active")

    class Meta:
        model = Membership
        fields = ("username", "role", "active")


class LimitOutput(serializers.ModelSerializer[Quota]):
    """Limits of one subject; null: no limit."""

    tenant = class_name_of("tenant.slug")
    key = serializers.IntegerField(source="key_id", allow_null=True)
    slo_class = class_name_of("slo_class.name")
    subject = serializers.CharField()

    class Meta:
        model = Quota
        fields = ("id", "subject", "tenant", "key", "slo_class", "requests_per_minute", "tokens_per_minute",
                  "concurrent_requests", "queued_requests", "queue_seconds")  # fmt: skip


class LimitUseOutput(Shape):
    scope = text()
    subject = text()
    slo_class = text(allow_blank=True)
    limit_name = text()
    limit = number()
    used = number(allow_null=True)


class LimitUsesOutput(Shape):
    results = LimitUseOutput(many=True)


class BoostOutput(serializers.ModelSerializer[Boost]):
    tenant = serializers.CharField(source="tenant.slug")
    key = serializers.IntegerField(source="key_id", allow_null=True)
    slo_class = serializers.CharField(source="slo_class.name")
    in_force = serializers.SerializerMethodField()

    class Meta:
        model = Boost
        fields = ("id", "tenant", "key", "slo_class", "starts_at", "expires_at", "ended_at", "reason",
                  "granted_by", "in_force")  # fmt: skip

    def get_in_force(self, row: Boost) -> bool:
        return row.is_in_force(now=timezone.now())


class UsageRow(Shape):
    """Sums; the fields it is not grouped by are null."""

    day = serializers.DateField(allow_null=True)
    tenant = text(allow_null=True)
    key = whole(allow_null=True)
    slo_class = text(allow_null=True)
    model = text(allow_null=True)
    requests = whole()
    failed = whole()
    prompt_tokens = whole()
    cached_tokens = whole()
    output_tokens = whole()
    queue_seconds = number()


class UsageOutput(Shape):
    since = serializers.DateField()
    until = serializers.DateField()
    by = serializers.ListField(child=serializers.CharField())
    results = UsageRow(many=True)


class AttainmentRow(Shape):
    tenant = text(allow_null=True)
    slo_class = text()
    requests = whole()
    ttft_met = whole()
    tpot_met = whole()


class AttainmentOutput(Shape):
    since = serializers.DateTimeField()
    results = AttainmentRow(many=True)


class ImportChange(Shape):
    kind = text()
    name = text()
    action = text()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)


class ImportOutput(Shape):
    """What an import changes, or changed."""

    applied = yes()
    digest = text(help_text="Of document and present state: send it back to apply exactly this.")
    changes = ImportChange(many=True)
