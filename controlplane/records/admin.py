"""Read-only views of history for administrators."""

from django.contrib import admin
from django.http import HttpRequest

from controlplane.records.models import AuditEntry, RequestRecord


class HistoryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """History is looked at, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(RequestRecord)
class RequestRecordAdmin(HistoryAdmin):
    list_display = ["request_id", "slo_class_served", "outcome", "finished_at", "moves", "recoveries"]
    list_filter = ["slo_class_served", "outcome"]


@admin.register(AuditEntry)
class AuditEntryAdmin(HistoryAdmin):
    list_display = ["at", "actor", "action", "object_type", "object_id", "reason"]
    list_filter = ["action", "actor"]
