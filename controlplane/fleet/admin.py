"""Plain views of the fleet for administrators."""

from django.contrib import admin

from controlplane.fleet.models import GatewayProcess, Instance, InstanceTransition, Pool, ScalingRecord


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "served_model", "engine", "min_instances", "max_instances", "target_instances"]
    readonly_fields = ["revision", "target_instances"]


@admin.register(Instance)
class InstanceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["instance_id", "pool", "state", "accepting", "cause", "changed_at"]
    list_filter = ["pool", "state"]
    readonly_fields = ["state", "cause", "changed_at", "incarnation", "engine_version", "host", "pid",
                       "pool_revision", "failures", "failure_log", "operation_id"]  # fmt: skip


@admin.register(GatewayProcess)
class GatewayProcessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["gateway_id", "pool", "url", "last_seen_at"]


@admin.register(InstanceTransition)
class InstanceTransitionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["at", "instance", "previous", "state", "cause", "actor"]


@admin.register(ScalingRecord)
class ScalingRecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = [
        "at",
        "pool",
        "action",
        "target_before",
        "target_after",
        "actor",
        "carried_out",
        "problem",
    ]
    list_filter = ["pool", "action"]
