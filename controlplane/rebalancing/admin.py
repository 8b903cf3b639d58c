"""Plain views of policies, rounds and migrations for administrators."""

from django.contrib import admin

from controlplane.rebalancing.models import LoopState, PolicyVersion, RebalanceRound, RequestMigration
from controlplane.records.admin import HistoryAdmin


@admin.register(PolicyVersion)
class PolicyVersionAdmin(HistoryAdmin):
    list_display = ["pool", "version", "active", "created_by", "created_at", "comment"]


@admin.register(LoopState)
class LoopStateAdmin(HistoryAdmin):
    list_display = ["epoch", "leader", "taken_at"]


@admin.register(RebalanceRound)
class RebalanceRoundAdmin(HistoryAdmin):
    list_display = ["pool", "epoch", "tick", "taken_at", "duration_ms"]


@admin.register(RequestMigration)
class RequestMigrationAdmin(HistoryAdmin):
    list_display = ["migration_id", "request_id", "source", "destination", "rule", "state", "downtime_ms"]
    list_filter = ["state", "rule"]
