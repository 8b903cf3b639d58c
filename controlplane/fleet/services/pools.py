"""Pools: made, changed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from controlplane.fleet.models import Pool
from controlplane.fleet.services.rows import SYSTEM, FleetError
from controlplane.records.services import audit

FACTS = (
    "served_model",
    *Pool.ENGINE_FIELDS,
    "revision",
    "resources",
    "node_labels",
    "min_instances",
    "max_instances",
)
CHANGEABLE = frozenset(FACTS) - {"revision"}


@transaction.atomic
def ensure_pool(*, name: str, actor: str = SYSTEM, **properties: Any) -> Pool:
    """The pool of this name with these properties, made or changed. Raises ``ValidationError``.

    ``properties``: ``served_model``, ``model_path``, ``engine``, ``engine_args``, ``migration_args``,
    ``kv_memory_bytes``, ``python``, ``resources``, ``node_labels``, ``min_instances``, ``max_instances``;
    what is not given stays as it is, or is the default of a new pool.
    """
    pool = Pool.objects.filter(name=name).first()
    if pool is None:
        return create_pool(name=name, actor=actor, **properties)
    return change_pool(pool=pool, actor=actor, **properties)


@transaction.atomic
def create_pool(*, name: str, actor: str, reason: str = "", **properties: Any) -> Pool:
    """A new, empty pool. Raises ``ValidationError`` by field."""
    _require_known(properties)
    pool = Pool(name=name, **_plain(properties))
    pool.full_clean()
    pool.save()
    audit(
        actor=actor,
        action="pool.create",
        object_type="pool",
        object_id=name,
        after=_facts(pool),
        reason=reason,
    )
    return pool


@transaction.atomic
def change_pool(*, pool: Pool, actor: str, reason: str = "", **properties: Any) -> Pool:
    """Change properties. Those that an engine is started with take effect when it is started again
    (:func:`start_rolling_restart` does that for all). Raises ``ValidationError`` by field.
    """
    _require_known(properties)
    pool.refresh_from_db()
    before = _facts(pool)
    for field, value in _plain(properties).items():
        setattr(pool, field, value)
    if any(before[field] != getattr(pool, field) for field in Pool.ENGINE_FIELDS):
        pool.revision += 1
    pool.full_clean()
    after = _facts(pool)
    if before != after:
        pool.save(update_fields=[*FACTS])
        audit(
            actor=actor,
            action="pool.change",
            object_type="pool",
            object_id=pool.name,
            before=before,
            after=after,
            reason=reason,
        )
    return pool


@transaction.atomic
def delete_pool(*, pool: Pool, actor: str, reason: str = "") -> None:
    """Forget a pool without running instances, and its history. Raises :class:`FleetError`."""
    running = pool.instances.exclude(state="stopped").values_list("instance_id", flat=True)
    if running:
        raise FleetError(f"pool {pool.name} still has instances ({', '.join(running)}): remove them first")
    audit(
        actor=actor,
        action="pool.delete",
        object_type="pool",
        object_id=pool.name,
        before=_facts(pool),
        reason=reason,
    )
    pool.rounds.all().delete()
    pool.policy_versions.all().delete()
    pool.instances.all().delete()
    pool.delete()


def _require_known(properties: Mapping[str, Any]) -> None:
    unknown = set(properties) - CHANGEABLE
    if unknown:
        raise TypeError(f"not a pool's property: {', '.join(sorted(unknown))}")


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in properties.items()
        if value is not None
    }


def _facts(pool: Pool) -> dict[str, Any]:
    return {field: getattr(pool, field) for field in FACTS}
