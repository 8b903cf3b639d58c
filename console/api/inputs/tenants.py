"""What may be said of tenants, keys, classes, limits and boosts; the models judge the values."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from console.api.inputs import Reason

MAX_CLASSES = 50


def class_name(**given: Any) -> Any:
    return serializers.CharField(max_length=40, **given)


def class_names(**given: Any) -> Any:
    return serializers.ListField(child=serializers.CharField(max_length=40), max_length=MAX_CLASSES, **given)


class TenantClass(Reason):
    slo_class = class_name()
    apply_to_running = serializers.BooleanField(required=False, default=False)


class TenantChange(Reason):
    name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    slo_class = class_name(required=False)
    allowed_classes = class_names(required=False)
    maximum_class = class_name(required=False, allow_null=True)
    refuse_above_maximum = serializers.BooleanField(required=False)
    weight = serializers.FloatField(min_value=0.01, max_value=1000.0, required=False)
    apply_to_running = serializers.BooleanField(required=False, default=False)


class NewTenant(TenantChange):
    slug = serializers.CharField(max_length=63)


class KeyChange(Reason):
    name = serializers.CharField(max_length=80, required=False)
    scopes = serializers.ListField(child=serializers.CharField(max_length=40), max_length=10, required=False)
    networks = serializers.ListField(
        child=serializers.CharField(max_length=50), max_length=50, required=False
    )
    slo_class = class_name(required=False, allow_null=True)
    allowed_classes = class_names(required=False)
    maximum_class = class_name(required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class NewKey(KeyChange):
    name = serializers.CharField(max_length=80)


class Rotation(Reason):
    overlap_hours = serializers.FloatField(
        min_value=0,
        max_value=24 * 90,
        required=False,
        default=24.0,
        help_text="How long the old one works on.",
    )


class NewMember(Reason):
    username = serializers.CharField(max_length=150)


class ClassChange(Reason):
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    rank = serializers.IntegerField(min_value=0, max_value=32_767, required=False)
    ttft_target_ms = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, allow_null=True
    )
    tpot_target_ms = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, allow_null=True
    )
    target_load_tokens = serializers.IntegerField(
        min_value=0, max_value=2**31 - 1, required=False, allow_null=True
    )
    service_tier = serializers.CharField(max_length=20, required=False, allow_blank=True)
    colour = serializers.CharField(max_length=7, required=False, allow_blank=True)


class NewClass(ClassChange):
    name = class_name()
    rank = serializers.IntegerField(min_value=0, max_value=32_767)


def limit(**given: Any) -> Any:
    """Null lifts it."""
    return serializers.IntegerField(max_value=2**31 - 1, required=False, allow_null=True, **given)


class Limits(Reason):
    """Those not named stay as they are; null lifts one."""

    key = serializers.IntegerField(
        min_value=1,
        max_value=2**53,
        required=False,
        allow_null=True,
        help_text="Id of one of the tenant's keys.",
    )
    slo_class = class_name(required=False, allow_null=True)
    requests_per_minute = limit(min_value=1)
    tokens_per_minute = limit(min_value=1)
    concurrent_requests = limit(min_value=1)
    queued_requests = limit(min_value=0)
    queue_seconds = serializers.FloatField(min_value=0, max_value=3600, required=False, allow_null=True)


class NewBoost(Reason):
    slo_class = class_name()
    expires_at = serializers.DateTimeField()
    starts_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    key = serializers.IntegerField(
        min_value=1, max_value=2**53, required=False, allow_null=True, default=None
    )
    apply_to_running = serializers.BooleanField(required=False, default=False)


class EndBoost(Reason):
    apply_to_running = serializers.BooleanField(required=False, default=False)
