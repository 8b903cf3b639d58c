"""Plain views of the fleet for administrators."""

from django.contrib import admin

from controlplane.fleet.models import GatewayProcess, Instance, Pool


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "served_model", "engine", "min_instances", "max_instances"]


@admin.register(Instance)
class InstanceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["instance_id", "pool", "state", "accepting", "cause", "changed_at"]
    list_filter = ["pool", "state"]
    readonly_fields = ["state", "cause", "changed_at", "incarnation", "engine_version", "host", "pid"]


@admin.register(GatewayProcess)
class GatewayProcessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["gateway_id", "pool", "url", "last_seen_at"]
