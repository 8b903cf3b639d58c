"""Pools, their size, and what happened to instances."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from console.api.outputs import Shape, data, number, text, time, whole, yes
from console.api.outputs.fleet import OperationOutput
from controlplane.fleet.models import InstanceTransition, Pool, ScalingRecord


class PoolOutput(serializers.ModelSerializer[Pool]):
    engine_args = serializers.DictField()
    migration_args = serializers.DictField()
    resources = serializers.DictField()
    node_labels = serializers.DictField()

    class Meta:
        model = Pool
        fields = (
            "name",
            "served_model",
            "model_path",
            "engine",
            "engine_args",
            "migration_args",
            "kv_memory_bytes",
            "python",
            "resources",
            "node_labels",
            "min_instances",
            "max_instances",
            "target_instances",
            "revision",
            "created_at",
        )


class PoolSizeOutput(Shape):
    """Three sizes that may differ, the band that moves them, and who may."""

    pool = text()
    target = whole(help_text="What a person or the policy asked for last.")
    actual = whole()
    ready = whole()
    by_state = data(child=serializers.IntegerField())
    min_instances = whole()
    max_instances = whole()
    held_until = time(allow_null=True)
    held_by = text(allow_blank=True)
    hold_reason = text(allow_blank=True)
    rolling_restart = text(allow_blank=True, help_text="Its operation; empty: none.")
    scaling = data(help_text="The active policy's part that decides: band, interval, cooldown.")


class ScalingOutput(serializers.ModelSerializer[ScalingRecord]):
    """One decision about a pool's size."""

    pool = serializers.CharField(source="pool.name")
    instance_ids = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ScalingRecord
        fields = ("id", "pool", "at", "action", "actor", "reason", "target_before", "target_after",
                  "instance_ids", "carried_out", "problem")  # fmt: skip


class TransitionOutput(serializers.ModelSerializer[InstanceTransition]):
    class Meta:
        model = InstanceTransition
        fields = ("id", "at", "previous", "state", "cause", "actor")


class LogOutput(Shape):
    instance_id = text()
    lines = whole()
    log = text(allow_blank=True)


class OperationStarted(Shape):
    operation = OperationOutput()


class FieldOutput(Shape):
    """One field of a policy's configuration, for forms."""

    path = text()
    kind = serializers.ChoiceField(choices=["number", "whole", "choice", "flag", "words"])
    default: Any = serializers.JSONField(allow_null=True)
    low = number(allow_null=True)
    high = number(allow_null=True)
    choices = serializers.ListField(child=serializers.CharField())
    nullable = yes()
    meaning = text(allow_blank=True)


class FieldsOutput(Shape):
    results = FieldOutput(many=True)
