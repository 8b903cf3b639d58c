"""Every change of a pool's size, wished or held back, with its reason."""

from __future__ import annotations

from django.db import models

from controlplane.fleet.models.pool import Pool


class ScalingRecord(models.Model):
    """One decision about a pool's size, by the policy or by a person."""

    class Action(models.TextChoices):
        UP = "up"
        DOWN = "down"
        CANCEL_DOWN = "cancel_down"
        """A pending scale-down was taken back: the instance takes work again."""
        DRAIN = "drain"
        HOLD = "hold"
        RESUME = "resume"

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="scaling_records")
    at = models.DateTimeField()
    action = models.CharField(max_length=12, choices=Action.choices)
    actor = models.CharField(max_length=150)
    """``system:policy`` for the policy's own."""
    reason = models.CharField(max_length=500, blank=True)
    target_before = models.PositiveIntegerField()
    target_after = models.PositiveIntegerField()
    instance_ids = models.JSONField(default=list)
    """Added, retired or kept by it."""
    carried_out = models.BooleanField(default=True)
    problem = models.CharField(max_length=500, blank=True)
    """Why it was not carried out: held, at the limit, no longer possible."""

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["pool", "at"], name="scaling_pool_at")]

    def __str__(self) -> str:
        return f"{self.pool}: {self.action} {self.target_before} → {self.target_after}"


class RollingRestart(models.Model):
    """What a rolling restart still has to do; how it stands is told by its operation."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="rolling_restarts")
    operation_id = models.CharField(max_length=40, unique=True)
    waiting = models.JSONField(default=list)
    """Instances whose turn is still to come, in order."""
    current = models.CharField(max_length=63, blank=True)
    surge = models.CharField(max_length=63, blank=True)
    """An instance added so that the pool goes on serving; retired at the end."""
    before = models.JSONField(default=dict)
    """The pool's engine fields before, to go back to."""
    deadline_s = models.FloatField(null=True)
    on_deadline = models.CharField(max_length=9, default="wait")
    open = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["pool"], condition=models.Q(open=True), name="one_rolling_restart_per_pool"
            )
        ]

    def __str__(self) -> str:
        return f"rolling restart of {self.pool}: {len(self.waiting)} to come"
