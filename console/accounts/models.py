"""Machine tokens: how scripts and programs sign in to the admin API."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models

from controlplane.tenancy.models import Membership, Tenant


class MachineToken(models.Model):
    """A bearer token of a program. Only its SHA-256 is kept: 256 random bits need no slow hash."""

    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16)
    """The first characters, for people to tell tokens apart."""
    token_hash = models.CharField(max_length=64, unique=True)
    role = models.CharField(max_length=12, choices=Membership.Role.choices)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, related_name="+")
    """Of a tenant owner's token."""
    scopes = models.JSONField(default=list)
    issued_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="machine_tokens"
    )
    """Whose account it stands on: it ends with it. Empty for those made on the command line."""
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"

    def revoke(self, *, now: datetime) -> None:
        """From now on refused; a second call keeps the first time."""
        if self.revoked_at is None:
            self.revoked_at = now

    def is_valid(self, *, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
