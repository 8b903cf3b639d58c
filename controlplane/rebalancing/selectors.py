"""Reading policies, rounds, migrations, and how the loop does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import msgspec
from django.db.models import QuerySet

from controlplane import redis_client
from controlplane.fleet.models import Pool
from controlplane.rebalancing.models import PolicyVersion, RebalanceRound, RequestMigration
from controlplane.rebalancing.types import LoopStatus, PoolPolicy
from controlplane.rebalancing.what_if_models import WhatIfJob, WhatIfTrace
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.policies import PlanState
from controlplane.scheduling.snapshot import ClassRule
from controlplane.tenancy.models import SLOClass

LOOP_STATUS_KEY = "loop:status"
PLAN_STATES_KEY = "loop:states"
"""Pool -> what the core remembers from round to round; written once a second, for previews."""


def active_policy(pool_name: str) -> PolicyVersion | None:
    return PolicyVersion.objects.filter(pool__name=pool_name, active=True).first()


def active_scheduling_config(pool_name: str) -> SchedulingConfig:
    """The pool's active configuration; the defaults where none was ever activated."""
    version = active_policy(pool_name)
    return version.scheduling_config() if version else SchedulingConfig.recommended()


def pool_policies() -> list[PoolPolicy]:
    """Every pool with its active policy. Two queries, whatever the number of pools."""
    active = {row.pool_id: row for row in PolicyVersion.objects.filter(active=True)}
    return [_pool_policy(pool, active.get(pool.pk)) for pool in Pool.objects.all()]


def scheduling_class_rules() -> dict[str, ClassRule]:
    """SLO classes as the policy sees them."""
    return {row.name: ClassRule(row.name, row.rank, row.target_load_tokens) for row in SLOClass.objects.all()}


def loop_status() -> LoopStatus | None:
    """The loop's own report; ``None`` when it never wrote one. Raises ``RedisError``."""
    with redis_client.connect() as client:
        raw = cast(bytes | None, client.get(redis_client.key(LOOP_STATUS_KEY)))
    return msgspec.json.decode(raw, type=LoopStatus) if raw else None


def plan_states() -> dict[str, PlanState]:
    """What the loop's core remembers, by pool; empty when nobody leads. Raises ``RedisError``."""
    with redis_client.connect() as client:
        raw = cast(bytes | None, client.get(redis_client.key(PLAN_STATES_KEY)))
    states: dict[str, dict[str, Any]] = msgspec.json.decode(raw) if raw else {}
    return {pool: PlanState.from_dict(state) for pool, state in states.items()}


def policy_fingerprint() -> tuple[int, ...]:
    """Changes with every activation, by whomever. One small query."""
    return tuple(PolicyVersion.objects.filter(active=True).order_by("pk").values_list("pk", flat=True))


def policy_versions(*, pool: str = "") -> QuerySet[PolicyVersion]:
    """Newest first."""
    rows = PolicyVersion.objects.select_related("pool", "previous").order_by("pool__name", "-version")
    return rows.filter(pool__name=pool) if pool else rows


def migrations(*, state: str = "", request_id: str = "") -> QuerySet[RequestMigration]:
    """Newest first, narrowed by what is given."""
    rows = RequestMigration.objects.all()
    if state:
        rows = rows.filter(state=state)
    if request_id:
        rows = rows.filter(request_id=request_id)
    return rows


def running_migrations() -> QuerySet[RequestMigration]:
    return RequestMigration.objects.exclude(state__in=RequestMigration.FINAL_STATES)


def requested_migrations() -> list[RequestMigration]:
    """Manual moves that no tick has commanded yet, oldest first."""
    return list(RequestMigration.objects.filter(state=RequestMigration.State.REQUESTED).order_by("id"))


def rounds(*, pool: str = "") -> QuerySet[RebalanceRound]:
    rows = RebalanceRound.objects.select_related("policy", "pool")
    return rows.filter(pool__name=pool) if pool else rows


def what_if_traces() -> QuerySet[WhatIfTrace]:
    """Newest first, without their content."""
    return WhatIfTrace.objects.select_related("pool").defer("content")


def what_if_jobs() -> QuerySet[WhatIfJob]:
    """Newest first."""
    return WhatIfJob.objects.select_related("pool")


def _pool_policy(pool: Pool, version: PolicyVersion | None) -> PoolPolicy:
    config = version.scheduling_config() if version else SchedulingConfig.recommended()
    return PoolPolicy(
        pool_id=pool.pk,
        pool=pool.name,
        policy_id=version.pk if version else None,
        version=version.version if version else 0,
        config=within_pool_limits(config, pool),
    )


def within_pool_limits(config: SchedulingConfig, pool: Pool) -> SchedulingConfig:
    """The policy's range of sizes, cut to what the pool may have: a person's limits win."""
    low, high = max(1, pool.min_instances), max(1, pool.max_instances)
    least = min(max(config.scaling.min_instances, low), high)
    most = max(min(config.scaling.max_instances, high), least)
    if (least, most) == (config.scaling.min_instances, config.scaling.max_instances):
        return config
    return replace(config, scaling=replace(config.scaling, min_instances=least, max_instances=most))
