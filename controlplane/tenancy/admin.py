"""Plain views of tenants, keys and roles for administrators."""

from django.contrib import admin
from django.http import HttpRequest

from controlplane.tenancy.models import ApiKey, Boost, Membership, Quota, SLOClass, Tenant


@admin.register(SLOClass)
class SLOClassAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "rank", "ttft_target_ms", "tpot_target_ms", "target_load_tokens"]


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["slug", "name", "slo_class", "maximum_class", "weight", "active"]


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Keys are issued by the service, which alone can show one."""

    list_display = ["prefix", "tenant", "name", "created_at", "expires_at", "revoked_at"]
    exclude = ["key_hash"]
    readonly_fields = ["prefix", "tenant", "created_at", "created_by", "revoked_at", "replaces"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["user", "role", "tenant"]


@admin.register(Quota)
class QuotaAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["subject", "requests_per_minute", "tokens_per_minute", "concurrent_requests"]


@admin.register(Boost)
class BoostAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["tenant", "key", "slo_class", "starts_at", "expires_at", "ended_at", "granted_by"]
