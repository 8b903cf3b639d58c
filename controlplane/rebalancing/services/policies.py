"""Versions of a pool's scheduling configuration: made, judged by the core, activated, taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import PolicyChanged
from controlplane.fleet.models import Pool
from controlplane.rebalancing.models import PolicyVersion
from controlplane.records.services import audit
from controlplane.scheduling.config import ConfigError, SchedulingConfig


class PolicyError(ValueError):
    """A policy that cannot be made, read or taken back; ``field`` is a dotted path where there is one."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """What the core says of a configuration."""

    valid: bool
    config: dict[str, Any]
    """Completed with the policy's recommended numbers; empty when it is not valid."""
    problems: tuple[dict[str, str], ...] = ()
    """Each ``{"field": …, "message": …}``."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_policy(config: Mapping[str, Any]) -> PolicyCheck:
    """Judge a configuration without storing anything: every part's first problem, not only the first one."""
    problems: dict[str, str] = {}
    try:
        return PolicyCheck(True, SchedulingConfig.from_dict(config).to_dict())
    except ConfigError as error:
        problems[error.field] = _without_field(error)
    for name in config if isinstance(config, Mapping) else ():
        part = {name: config[name]}
        try:
            SchedulingConfig.from_dict(part)
        except ConfigError as error:
            problems.setdefault(error.field, _without_field(error))
    rows = tuple({"field": field, "message": message} for field, message in problems.items())
    return PolicyCheck(False, {}, rows)


def _without_field(error: ConfigError) -> str:
    """The sentence for a row that has the field beside it."""
    return str(error).removeprefix(f"{error.field}: ")


@transaction.atomic
def create_policy_version(
    *, pool: Pool, config: Mapping[str, Any], actor: str, comment: str = ""
) -> PolicyVersion:
    """A new, inactive version. Raises ``ValidationError`` with the core's sentence if it is bad."""
    Pool.objects.select_for_update().get(pk=pool.pk)
    last = pool.policy_versions.aggregate(last=Max("version"))["last"] or 0
    row = PolicyVersion(
        pool=pool,
        version=last + 1,
        config=dict(config) if isinstance(config, Mapping) else config,
        comment=comment,
        created_by=actor,
        created_at=timezone.now(),
    )
    row.full_clean()
    row.config = SchedulingConfig.from_dict(row.config).to_dict()
    row.save()
    _audit("policy.create", row, actor, comment, after={"config": row.config})
    return row


@transaction.atomic
def activate_policy_version(
    *, version: PolicyVersion, actor: str, reason: str = "", for_s: int | None = None
) -> PolicyVersion:
    """From the next tick on the pool is scheduled by this version; nothing is restarted.

    With ``for_s`` only for so many seconds: :func:`end_temporary_policies` then brings back what was
    active before. Without it, what is active for a time stays.
    """
    before = _active(version.pool)
    if before is not None and before.pk != version.pk:
        # What is active for a time only is nothing to come back to.
        version.previous = before.previous if before.active_until else before
    until = None if for_s is None else timezone.now() + timedelta(seconds=for_s)
    return _switch(version, before, actor, reason, "policy.activate", until)


@transaction.atomic
def rollback_policy(*, pool: Pool, actor: str, reason: str = "") -> PolicyVersion:
    """Activate what was active before the present version. Raises :class:`PolicyError` where nothing was."""
    before = _active(pool)
    if before is None:
        raise PolicyError(f"pool {pool.name} has no active policy version, so none can be taken back")
    if before.previous is None:
        raise PolicyError(
            f"version {before.version} of pool {pool.name} is the first that was activated; "
            "activate another version instead"
        )
    return _switch(before.previous, before, actor, reason, "policy.rollback")


def end_temporary_policies(*, now: datetime) -> int:
    """Bring back what was active before those whose time is over; without any, the recommended numbers."""
    ended = 0
    for pool in Pool.objects.filter(policy_versions__active=True, policy_versions__active_until__lte=now):
        with transaction.atomic():
            before = _active(pool)
            if before is not None and before.active_until is not None and before.active_until <= now:
                _end(before)
                ended += 1
    return ended


def _end(before: PolicyVersion) -> None:
    reason = f"version {before.version} was activated for a time, which is over"
    if before.previous is not None:
        _switch(before.previous, before, "system:policy", reason, "policy.expire")
        return
    before.active = False
    before.save(update_fields=["active"])
    version = before.version
    _audit(
        "policy.expire", before, "system:policy", reason, before={"active": version}, after={"active": None}
    )


def _active(pool: Pool) -> PolicyVersion | None:
    """Locks the pool first, so that two activations come one after the other."""
    Pool.objects.select_for_update().get(pk=pool.pk)
    return PolicyVersion.objects.select_related("previous").filter(pool=pool, active=True).first()


def _switch(
    version: PolicyVersion,
    before: PolicyVersion | None,
    actor: str,
    reason: str,
    action: str,
    until: datetime | None = None,
) -> PolicyVersion:
    PolicyVersion.objects.filter(pool=version.pool, active=True).update(active=False)
    version.active = True
    version.activated_at, version.activated_by, version.active_until = timezone.now(), actor, until
    version.save(update_fields=["active", "activated_at", "activated_by", "active_until", "previous"])
    publish(
        PolicyChanged.of(
            at=version.activated_at,
            pool=version.pool.name,
            version=version.version,
            policy=version.config.get("policy", ""),
            previous=before.version if before else None,
            actor=actor,
            reason=reason,
        )
    )
    _audit(
        action,
        version,
        actor,
        reason,
        before={"active": before.version if before else None},
        after={"active": version.version, **({"until": until.isoformat()} if until else {})},
    )
    return version


def diff_policies(
    before: SchedulingConfig | Mapping[str, Any], after: SchedulingConfig | Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every number that differs: ``{"path", "before", "after"}``, by path. Raises ``ConfigError``."""
    old, new = _flat(_complete(before)), _flat(_complete(after))
    return [
        {"path": path, "before": old.get(path), "after": new.get(path)}
        for path in sorted(old | new)
        if old.get(path) != new.get(path)
    ]


def _complete(config: SchedulingConfig | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(config, SchedulingConfig):
        return config.to_dict()
    return SchedulingConfig.from_dict(config).to_dict()


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _audit(
    action: str,
    row: PolicyVersion,
    actor: str,
    reason: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit(
        actor=actor,
        action=action,
        object_type="policy",
        object_id=f"{row.pool.name}/{row.version}",
        before=before,
        after=after,
        reason=reason,
    )
