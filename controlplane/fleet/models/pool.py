"""A pool: a served model, how its engines are started, and how many of them there should be."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from controlplane.fleet import pool_rules

slug = RegexValidator(
    r"^[a-z0-9][a-z0-9-]{0,62}$", "use lower-case letters, digits and hyphens, at most 63 characters"
)


class Pool(models.Model):
    """A served model: every instance of a pool can take every request of it."""

    class Engine(models.TextChoices):
        VLLM = "vllm", "vLLM"
        PACED = "paced", "simulated, on the wall clock"

    name = models.CharField(max_length=63, unique=True, validators=[slug])
    served_model = models.CharField(max_length=200)
    """The name that clients ask for."""
    model_path = models.CharField(max_length=500)
    """Folder or hub name; for the simulated engine the name of a coefficient file."""
    engine = models.CharField(max_length=10, choices=Engine.choices, default=Engine.VLLM)
    engine_args = models.JSONField(default=dict, blank=True, validators=[pool_rules.check_engine_args])
    migration_args = models.JSONField(default=dict, blank=True, validators=[pool_rules.check_migration_args])
    """How requests move between its engines where that is not the default, e.g. ``{"copy_share": 0.1}``."""
    kv_memory_bytes = models.BigIntegerField(default=64 * 2**20)
    python = models.CharField(max_length=500, blank=True, validators=[pool_rules.check_python])
    """Interpreter of another installation on the nodes (another version of vLLM); empty: Ray's own."""
    revision = models.PositiveIntegerField(default=1)
    """Of everything above that an engine is started with; counted up by each change of it."""

    resources = models.JSONField(default=dict, blank=True, validators=[pool_rules.check_resources])
    """What Ray must set aside per instance, e.g. ``{"num_cpus": 1, "num_gpus": 0, "fast_disk": 1}``."""
    node_labels = models.JSONField(default=dict, blank=True, validators=[pool_rules.check_node_labels])
    """Labels a node must bear, e.g. ``{"zone": "a"}``; ``"!a"`` and ``"in(a,b)"`` as Ray reads them."""

    min_instances = models.PositiveIntegerField(default=1)
    max_instances = models.PositiveIntegerField(default=8)
    target_instances = models.PositiveIntegerField(default=0)
    """How many there should be now: what a person or the policy asked for last."""
    scaling_held_until = models.DateTimeField(null=True, blank=True)
    """Until then the policy may not change the pool's size; people may."""
    scaling_hold_reason = models.CharField(max_length=300, blank=True)
    scaling_held_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    ENGINE_FIELDS = ("model_path", "engine", "engine_args", "migration_args", "kv_memory_bytes", "python")
    """What an engine is started with: a change takes effect when it is started again."""

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.max_instances < max(1, self.min_instances):
            raise ValidationError(
                {"max_instances": f"must be at least min_instances ({max(1, self.min_instances)})"}
            )
        if self.kv_memory_bytes < pool_rules.LEAST_KV_MEMORY_BYTES:
            least = pool_rules.LEAST_KV_MEMORY_BYTES
            raise ValidationError({"kv_memory_bytes": f"must be at least {least} (1 MiB)"})

    def scaling_is_held(self, now: datetime) -> bool:
        return self.scaling_held_until is not None and now < self.scaling_held_until
