"""Answers kept for their ``Idempotency-Key``: a retried action is answered, not done twice."""

from __future__ import annotations

from django.db import models


class StoredAnswer(models.Model):
    """The first answer to one key of one caller on one path; forgotten after a day."""

    caller = models.CharField(max_length=200)
    key = models.CharField(max_length=120)
    target = models.CharField(max_length=300)
    """Method and path."""
    fingerprint = models.CharField(max_length=64)
    """SHA-256 of the body."""
    status = models.PositiveSmallIntegerField(null=True)
    """Empty while the first call is still being worked on."""
    body = models.JSONField(null=True)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="stored_answer_once")]
        indexes = [models.Index(fields=["made_at"], name="stored_answer_made")]

    def __str__(self) -> str:
        return f"{self.target} of {self.caller}"
