"""Versions of a pool's scheduling configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from controlplane.fleet.models import Pool
from controlplane.rebalancing.models import PolicyVersion
from controlplane.records.services import audit
from controlplane.scheduling.config import SchedulingConfig


@transaction.atomic
def create_policy_version(
    *, pool: Pool, config: Mapping[str, Any], actor: str, comment: str = ""
) -> PolicyVersion:
    """A new, inactive version. Raises ``ValidationError`` with the core's sentence if it is bad."""
    last = pool.policy_versions.aggregate(last=Max("version"))["last"] or 0
    row = PolicyVersion(
        pool=pool,
        version=last + 1,
        config=dict(config),
        comment=comment,
        created_by=actor,
        created_at=timezone.now(),
    )
    row.full_clean()
    row.config = SchedulingConfig.from_dict(row.config).to_dict()
    row.save()
    audit(
        actor=actor,
        action="policy.create",
        object_type="policy",
        object_id=f"{pool.name}/{row.version}",
        after={"config": row.config},
        reason=comment,
    )
    return row


@transaction.atomic
def activate_policy_version(*, version: PolicyVersion, actor: str, reason: str = "") -> PolicyVersion:
    """From the next tick on the pool is scheduled by this version."""
    active = PolicyVersion.objects.select_for_update().filter(pool=version.pool, active=True)
    before = [row.version for row in active]
    active.update(active=False)
    version.active = True
    version.save(update_fields=["active"])
    audit(
        actor=actor,
        action="policy.activate",
        object_type="policy",
        object_id=f"{version.pool.name}/{version.version}",
        before={"active": before},
        after={"active": [version.version]},
        reason=reason,
    )
    return version
