"""Gateway processes as last heard of."""

from __future__ import annotations

from django.db import models


class GatewayProcess(models.Model):
    """One gateway as last heard of; its live figures are in Redis."""

    gateway_id = models.CharField(max_length=80, unique=True)
    incarnation = models.CharField(max_length=64)
    pool = models.CharField(max_length=63)
    url = models.CharField(max_length=200)
    pid = models.PositiveIntegerField(default=0)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        ordering = ["gateway_id"]
        verbose_name_plural = "gateway processes"

    def __str__(self) -> str:
        return f"{self.gateway_id} at {self.url}"
