"""For whom the fleet works: tenants, their keys and limits, the SLO classes, and people's roles."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from controlplane.tenancy.validators import colour, default_scopes, networks, scopes, slug

DEFAULT_COLOUR = "#5b7fa6"


class SLOClass(models.Model):
    """What a class of requests is promised, and its right of way."""

    name = models.CharField(max_length=40, unique=True, validators=[slug])
    description = models.CharField(max_length=300, blank=True)
    rank = models.PositiveSmallIntegerField()
    """Scheduling priority: lower is served first."""
    ttft_target_ms = models.PositiveIntegerField(null=True, blank=True)
    tpot_target_ms = models.PositiveIntegerField(null=True, blank=True)
    target_load_tokens = models.PositiveIntegerField(null=True, blank=True)
    """Execution priority: others may fill an instance that hosts this class up to this load; empty = none."""
    service_tier = models.CharField(max_length=20, blank=True)
    """OpenAI's ``service_tier`` that asks for this class; each tier asks for one class at most."""
    colour = models.CharField(max_length=7, default=DEFAULT_COLOUR, validators=[colour])

    class Meta:
        ordering = ["rank", "name"]
        verbose_name = "SLO class"
        verbose_name_plural = "SLO classes"
        constraints = [
            models.UniqueConstraint(
                name="one_class_per_service_tier", fields=["service_tier"], condition=~Q(service_tier="")
            )
        ]

    def __str__(self) -> str:
        return self.name


class ClassRights(models.Model):
    """Which classes somebody may be served under; what is empty says nothing."""

    maximum_class = models.ForeignKey(
        SLOClass, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    """Nothing of a lower rank than this class's is ever served, but for a boost."""

    class Meta:
        abstract = True


class Tenant(ClassRights):
    """A customer of the fleet."""

    slug = models.CharField(max_length=63, unique=True, validators=[slug])
    name = models.CharField(max_length=120)
    description = models.CharField(max_length=500, blank=True)
    slo_class = models.ForeignKey(SLOClass, on_delete=models.PROTECT, related_name="default_of")
    """Served when a request names no class."""
    allowed_classes = models.ManyToManyField(SLOClass, blank=True, related_name="allowed_to")
    """Besides the default one."""
    refuse_above_maximum = models.BooleanField(default=False)
    """Answer 403 to a request that asks for more than is allowed, instead of serving it lower."""
    weight = models.FloatField(default=1.0, validators=[MinValueValidator(0.01), MaxValueValidator(1000.0)])
    """Share of the fleet among the tenants of one class that wait: twice the weight, twice the tokens."""
    active = models.BooleanField(default=True)
    reclassified_at = models.DateTimeField(null=True, blank=True)
    """Running requests that arrived before follow the present rights: gateways bring them to their class."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class ApiKey(ClassRights):
    """A bearer key of a tenant. Only its SHA-256 is kept: 256 random bits need no slow hash."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16)
    """The first characters, for people to tell keys apart."""
    key_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=default_scopes, blank=True, validators=[scopes])
    networks = models.JSONField(default=list, blank=True, validators=[networks])
    """From where it may be used, in CIDR form; empty: from anywhere."""
    slo_class = models.ForeignKey(
        SLOClass, on_delete=models.PROTECT, null=True, blank=True, related_name="default_of_keys"
    )
    """Served when a request names no class; empty: the tenant's."""
    allowed_classes = models.ManyToManyField(SLOClass, blank=True, related_name="allowed_to_keys")
    """Of those that the tenant is allowed; empty: all of them."""
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    """To within a minute or so."""
    last_used_from = models.GenericIPAddressField(null=True, blank=True)
    replaces = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="replaced_by"
    )
    """The key whose rotation made this one."""

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    def revoke(self, *, now: datetime) -> None:
        """From now on refused; a second call keeps the first time."""
        if self.revoked_at is None:
            self.revoked_at = now

    def expire_by(self, moment: datetime) -> None:
        """Refused from ``moment`` on at the latest."""
        if self.expires_at is None or moment < self.expires_at:
            self.expires_at = moment

    def is_valid(self, *, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def _unique_quota(name: str, given: list[str]) -> models.UniqueConstraint:
    """One row of limits per subject. (``NULLS NOT DISTINCT`` would say it, but SQLite lacks it.)"""
    absent = {f"{field}__isnull": True for field in ("tenant", "key", "slo_class") if field not in given}
    return models.UniqueConstraint(name=f"one_quota_per_{name}", fields=given, condition=Q(**absent))


def _limit() -> models.PositiveIntegerField[int | None, int | None]:
    return models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])


class Quota(models.Model):
    """Limits of one key, one tenant, one class, or of a key or a tenant within a class; empty = no limit."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="quotas")
    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True, blank=True, related_name="quotas")
    slo_class = models.ForeignKey(
        SLOClass, on_delete=models.CASCADE, null=True, blank=True, related_name="quotas"
    )
    requests_per_minute = _limit()
    tokens_per_minute = _limit()
    """Prompt and output tokens together."""
    concurrent_requests = _limit()
    queued_requests = models.PositiveIntegerField(null=True, blank=True)
    """That may wait in one gateway's queue; 0: none may wait."""
    queue_seconds = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.0), MaxValueValidator(3600.0)]
    )
    """How long a request may wait for an instance."""

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="quota_has_one_owner",
                condition=(Q(tenant__isnull=True) | Q(key__isnull=True))
                & (Q(tenant__isnull=False) | Q(key__isnull=False) | Q(slo_class__isnull=False)),
            ),
            _unique_quota("tenant", ["tenant"]),
            _unique_quota("tenant_class", ["tenant", "slo_class"]),
            _unique_quota("key", ["key"]),
            _unique_quota("key_class", ["key", "slo_class"]),
            _unique_quota("class", ["slo_class"]),
        ]

    def __str__(self) -> str:
        return f"limits of {self.subject}"

    @property
    def subject(self) -> str:
        """Whose limits: ``tenant acme``, ``key ld_ab12… in class batch``, ``class batch``."""
        owner = f"tenant {self.tenant.slug}" if self.tenant else f"key {self.key.prefix}…" if self.key else ""
        if self.slo_class is None:
            return owner
        return f"{owner} in class {self.slo_class.name}" if owner else f"class {self.slo_class.name}"


class Boost(models.Model):
    """A better class for a while: for a tenant or one of its keys, above default, allowed and maximum."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="boosts")
    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True, blank=True, related_name="boosts")
    """Empty: every key of the tenant."""
    slo_class = models.ForeignKey(SLOClass, on_delete=models.CASCADE, related_name="boosts")
    starts_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    """Ended by somebody before its time."""
    reason = models.CharField(max_length=500)
    granted_by = models.CharField(max_length=150)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="boost_ends_later", condition=Q(expires_at__gt=models.F("starts_at")))
        ]
        indexes = [models.Index(fields=["tenant", "expires_at"], name="boost_tenant_expiry")]

    def __str__(self) -> str:
        return f"{self.tenant} to {self.slo_class} until {self.expires_at:%Y-%m-%d %H:%M}"

    def is_in_force(self, *, now: datetime) -> bool:
        return self.ended_at is None and self.starts_at <= now < self.expires_at

    def end(self, *, now: datetime) -> None:
        """No longer in force; a second call keeps the first time."""
        if self.ended_at is None:
            self.ended_at = now


class Membership(models.Model):
    """What a person may do: one role across the fleet, or ownership of tenants."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "viewer"
        OPERATOR = "operator", "operator"
        ADMIN = "admin", "admin"
        TENANT_OWNER = "tenant_owner", "tenant owner"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices, default=Role.VIEWER)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="memberships"
    )

    class Meta:
        ordering = ["user__username", "id"]
        constraints = [
            models.CheckConstraint(
                name="tenant_owner_has_tenant",
                condition=Q(role="tenant_owner", tenant__isnull=False)
                | (~Q(role="tenant_owner") & Q(tenant__isnull=True)),
            ),
            models.UniqueConstraint(name="one_membership_per_tenant", fields=["user", "tenant"]),
            models.UniqueConstraint(
                name="one_role_across_the_fleet", fields=["user"], condition=Q(tenant__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role}"
