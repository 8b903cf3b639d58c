"""Policy versions, previews, what-if jobs."""

from __future__ import annotations

from rest_framework import serializers

from console.api.outputs import Shape, data, number, text, whole, yes
from console.api.schema import FieldError
from controlplane.rebalancing.models import PolicyVersion
from controlplane.rebalancing.what_if_models import WhatIfJob, WhatIfTrace


class PolicyOutput(serializers.ModelSerializer[PolicyVersion]):
    pool = serializers.CharField(source="pool.name")
    config = serializers.DictField()
    previous = serializers.IntegerField(source="previous.version", default=None, allow_null=True)

    class Meta:
        model = PolicyVersion
        fields = ("id", "pool", "version", "config", "active", "comment", "created_by", "created_at",
                  "activated_at", "activated_by", "active_until", "previous")  # fmt: skip


class PolicyCheckOutput(Shape):
    valid = yes()
    config = data(allow_null=True, help_text="Completed by the core; null while it is not valid.")
    problems = FieldError(many=True)


class ChangeOutput(Shape):
    path = text()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class PreviewedInstance(Shape):
    instance_id = text()
    freeness_tokens = number(allow_null=True)
    freeness_now_tokens = number(allow_null=True)
    used_tokens = whole()
    capacity_tokens = whole()
    running = whole()
    waiting = whole()
    draining = yes()
    age_s = number()


class PreviewOutput(Shape):
    """What the very same core would decide on the fleet as it is now."""

    taken_at_s = number()
    policy = text()
    instances = PreviewedInstance(many=True)
    decisions = serializers.ListField(child=serializers.DictField())
    decisions_now = serializers.ListField(child=serializers.DictField())
    diff = ChangeOutput(many=True)


class DiffOutput(Shape):
    changes = ChangeOutput(many=True)


class YamlOutput(Shape):
    yaml = text()


class TraceOutput(serializers.ModelSerializer[WhatIfTrace]):
    pool = serializers.CharField(source="pool.name", default=None, allow_null=True)

    class Meta:
        model = WhatIfTrace
        fields = ("id", "name", "source", "pool", "rows", "duration_s", "prompt_tokens", "output_tokens",
                  "created_by", "created_at")  # fmt: skip


class WhatIfOutput(serializers.ModelSerializer[WhatIfJob]):
    trace = serializers.IntegerField(source="trace_id")
    pool = serializers.CharField(source="pool.name")
    policies = serializers.ListField(child=serializers.DictField())

    class Meta:
        model = WhatIfJob
        fields = ("id", "trace", "pool", "state", "policies", "instances", "latency", "seed", "problem",
                  "created_by", "created_at", "started_at", "finished_at")  # fmt: skip


class WhatIfDetailOutput(WhatIfOutput):
    """With the result: readings, series and distributions of both policies."""

    result = serializers.DictField()

    class Meta(WhatIfOutput.Meta):
        fields = (*WhatIfOutput.Meta.fields, "result")  # type: ignore[assignment]
