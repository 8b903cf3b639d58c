"""What may be said of pools, instances, requests, policies and what-if jobs; services judge the values."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from console.api.inputs import Reason
from controlplane.fleet.models import Instance, Pool
from controlplane.fleet.pool_rules import MIGRATION_RANGES

MAX_DEADLINE_S = 7 * 24 * 3600
MIGRATION_ARGS = f"How requests move: transfer, {', '.join(MIGRATION_RANGES)}; what is left out is default."


class PoolChange(Reason):
    served_model = serializers.CharField(max_length=200, required=False)
    model_path = serializers.CharField(max_length=500, required=False)
    engine = serializers.ChoiceField(choices=Pool.Engine.choices, required=False)
    engine_args = serializers.DictField(required=False)
    migration_args = serializers.DictField(required=False, help_text=MIGRATION_ARGS)
    kv_memory_bytes = serializers.IntegerField(min_value=1, max_value=2**53, required=False)
    python = serializers.CharField(max_length=500, required=False, allow_blank=True)
    resources = serializers.DictField(required=False)
    node_labels = serializers.DictField(required=False)
    min_instances = serializers.IntegerField(min_value=0, max_value=10_000, required=False)
    max_instances = serializers.IntegerField(min_value=1, max_value=10_000, required=False)


class NewPool(PoolChange):
    name = serializers.CharField(max_length=63)
    served_model = serializers.CharField(max_length=200)
    model_path = serializers.CharField(max_length=500)


class Scale(Reason):
    target = serializers.IntegerField(min_value=0, max_value=10_000)


class HoldScaling(Reason):
    until = serializers.DateTimeField(help_text="At most a week ahead.")


class Draining(Reason):
    deadline_s = serializers.IntegerField(
        min_value=1, max_value=MAX_DEADLINE_S, required=False, allow_null=True, default=None
    )
    on_deadline = serializers.ChoiceField(
        choices=Instance.OnDeadline.choices, required=False, default=Instance.OnDeadline.WAIT
    )


class RollingRestart(Draining):
    engine_args = serializers.DictField(required=False)
    migration_args = serializers.DictField(required=False, help_text=MIGRATION_ARGS)
    model_path = serializers.CharField(max_length=500, required=False)
    python = serializers.CharField(max_length=500, required=False, allow_blank=True)
    kv_memory_bytes = serializers.IntegerField(min_value=1, max_value=2**53, required=False)


class RequestClass(Reason):
    slo_class = serializers.CharField(max_length=40)


class PolicyConfig(Reason):
    pool = serializers.CharField(
        max_length=63, required=False, help_text="The only pool where none is named."
    )
    config = serializers.DictField(
        required=False, help_text="As /policies/schema says; what is left out is default."
    )
    yaml = serializers.CharField(max_length=65_536, required=False, help_text="Instead of config.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if ("config" in attrs) == ("yaml" in attrs):
            raise serializers.ValidationError({"config": "send either config or yaml"})
        return attrs


class Activation(Reason):
    for_s = serializers.IntegerField(
        min_value=60,
        max_value=86_400,
        required=False,
        allow_null=True,
        default=None,
        help_text="Seconds after which what was active before comes back by itself; null: it stays.",
    )


class OfPool(Reason):
    pool = serializers.CharField(max_length=63, required=False)


class NewTrace(Reason):
    name = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")
    content = serializers.CharField(
        required=False, trim_whitespace=False, help_text="A CSV or JSON lines trace; or record what happened:"
    )
    pool = serializers.CharField(max_length=63, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        recorded = {"since", "until"} <= set(attrs)
        if ("content" in attrs) == recorded:
            raise serializers.ValidationError({"content": "send either content, or since and until"})
        return attrs


class NewWhatIf(Reason):
    trace = serializers.IntegerField(min_value=1, max_value=2**53)
    pool = serializers.CharField(max_length=63, required=False)
    policies = serializers.ListField(
        child=serializers.DictField(),
        min_length=2,
        max_length=2,
        help_text="Two of {version} or {name, config}; the first is the baseline.",
    )
    instances = serializers.IntegerField(
        min_value=1, max_value=10_000, required=False, allow_null=True, default=None
    )
    latency = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")
    seed = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False, default=0)
