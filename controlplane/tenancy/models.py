"""For whom the fleet works: tenants, their keys, the SLO classes, and people's roles."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

slug = RegexValidator(
    r"^[a-z0-9][a-z0-9-]{0,62}$", "use lower-case letters, digits and hyphens, at most 63 characters"
)


class SLOClass(models.Model):
    """What a class of requests is promised, and its right of way."""

    name = models.CharField(max_length=40, unique=True, validators=[slug])
    rank = models.PositiveSmallIntegerField()
    """Scheduling priority: lower is served first."""
    ttft_target_ms = models.PositiveIntegerField(null=True, blank=True)
    tpot_target_ms = models.PositiveIntegerField(null=True, blank=True)
    target_load_tokens = models.PositiveIntegerField(null=True, blank=True)
    """Execution priority: others may fill an instance that hosts this class up to this load; empty = none."""
    service_tier = models.CharField(max_length=20, blank=True)
    """OpenAI's ``service_tier`` that asks for this class."""

    class Meta:
        ordering = ["rank", "name"]
        verbose_name = "SLO class"
        verbose_name_plural = "SLO classes"

    def __str__(self) -> str:
        return self.name


class Tenant(models.Model):
    """A customer of the fleet."""

    slug = models.CharField(max_length=63, unique=True, validators=[slug])
    name = models.CharField(max_length=120)
    slo_class = models.ForeignKey(SLOClass, on_delete=models.PROTECT, related_name="default_of")
    """Served when a request names no class."""
    allowed_classes = models.ManyToManyField(SLOClass, blank=True, related_name="allowed_to")
    """Besides the default one."""
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class ApiKey(models.Model):
    """A bearer key of a tenant. Only its SHA-256 is kept: 256 random bits need no slow hash."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16)
    """The first characters, for people to tell keys apart."""
    key_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    def revoke(self, *, now: datetime) -> None:
        """From now on refused; a second call keeps the first time."""
        if self.revoked_at is None:
            self.revoked_at = now

    def is_valid(self, *, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Membership(models.Model):
    """What a person may do: across the fleet, or (tenant owner) for one tenant alone."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "viewer"
        OPERATOR = "operator", "operator"
        ADMIN = "admin", "admin"
        TENANT_OWNER = "tenant_owner", "tenant owner"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="membership")
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.VIEWER)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="memberships"
    )

    class Meta:
        ordering = ["user__username"]
        constraints = [
            models.CheckConstraint(
                name="tenant_owner_has_tenant",
                condition=models.Q(role="tenant_owner", tenant__isnull=False)
                | (~models.Q(role="tenant_owner") & models.Q(tenant__isnull=True)),
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role}"
