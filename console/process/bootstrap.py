"""What must be in the database before anything serves: a pool, its instances, a tenant, an admin.

Called in a thread of its own: it uses the ORM.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from console.process.options import Options
from controlplane.fleet import live_status
from controlplane.fleet.models import Instance, Pool
from controlplane.fleet.services import add_instances, ensure_pool, reset_instance
from controlplane.tenancy.models import Membership, SLOClass, Tenant
from controlplane.tenancy.selectors import authenticate_key
from controlplane.tenancy.services import create_person, create_tenant, issue_key

ACTOR = "system:up"
ADMIN = "admin"
DEMO_TENANTS = {
    "demo": "standard",
    "acme-chat": "interactive",
    "globex-docs": "standard",
    "night-jobs": "batch",
}
"""Tenant -> SLO class. ``demo`` is for the curl line, the others are the demo's customers."""
KEY_FILE = "tenant-keys.json"
"""Raw keys of the demo's tenants, readable by this user alone: made once, so that every run can use them."""
MAX_INSTANCES = 64

State = Instance.State


@dataclass(frozen=True, slots=True)
class Prepared:
    tenant_keys: dict[str, str]
    """Raw key per tenant of the demo."""
    admin_password: str
    """Empty when somebody could sign in already: it is kept hashed and cannot be shown again."""


def prepare_database(options: Options, *, agents_may_live: bool = False) -> Prepared:
    """Make what is missing; leaves what people changed as it is, except for what ``options`` say.

    ``agents_may_live``: instances that run on a Ray of others are left alone.
    """
    for each in options.pools:
        pool = _pool(each)
        if agents_may_live:
            _add_missing(pool, each)
        else:
            _settle_instances(pool, each)
    if not agents_may_live:
        _stop_pools_except([each.pool for each in options.pools])
    keys = _tenant_keys(options.state_dir)
    return Prepared(tenant_keys=keys, admin_password=_admin())


def _pool(options: Options) -> Pool:
    engine_args: dict[str, object] = {}
    if options.max_model_len:
        engine_args["max_model_len"] = options.max_model_len
    return ensure_pool(
        name=options.pool,
        served_model=options.served_name,
        model_path=options.model_path,
        engine_args=engine_args,
        kv_memory_bytes=options.kv_memory_bytes,
        resources={"num_gpus": 1} if options.gpus else {"num_cpus": 1},
        min_instances=1,
        max_instances=MAX_INSTANCES,
        actor=ACTOR,
    )


@transaction.atomic
def _settle_instances(pool: Pool, options: Options) -> None:
    """As many pending instances as were asked for; no agent of an earlier run lives on our own Ray."""
    rows = list(Instance.objects.filter(pool=pool).order_by("id"))
    for row in rows[: options.engines]:
        reset_instance(instance=row, state=State.PENDING, cause="the stack was started", actor=ACTOR)
    for row in rows[options.engines :]:
        cause = f"the stack was started with {options.engines} engines"
        reset_instance(instance=row, state=State.STOPPED, cause=cause, actor=ACTOR)
    _add_missing(pool, options)
    for row in rows:
        live_status.forget_instance(row.instance_id)


def _stop_pools_except(names: list[str]) -> None:
    """No gateway of this run serves them."""
    for row in Instance.objects.exclude(pool__name__in=names).exclude(state=State.STOPPED):
        cause = "the stack was started without this pool"
        reset_instance(instance=row, state=State.STOPPED, cause=cause, actor=ACTOR)
        live_status.forget_instance(row.instance_id)


def _add_missing(pool: Pool, options: Options) -> None:
    missing = options.engines - Instance.objects.filter(pool=pool).exclude(state=State.STOPPED).count()
    if missing > 0:
        add_instances(pool=pool, count=missing, actor=ACTOR, reason="asked for at start")


def _tenant_keys(state_dir: Path) -> dict[str, str]:
    kept = read_keys(state_dir)
    keys = {
        slug: _working_key(slug, slo_class, kept.get(slug, "")) for slug, slo_class in DEMO_TENANTS.items()
    }
    if keys != kept:
        _write_keys(state_dir / KEY_FILE, keys)
    return keys


def _working_key(slug: str, slo_class: str, kept: str) -> str:
    """The kept key while it is still good, else a new one."""
    identity = authenticate_key(kept, timezone.now()) if kept else None
    if identity is not None and identity.tenant_slug == slug:
        return kept
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        tenant = create_tenant(slug=slug, slo_class=SLOClass.objects.get(name=slo_class), actor=ACTOR)
    return issue_key(tenant=tenant, name="make up", actor=ACTOR)


def read_keys(state_dir: Path) -> dict[str, str]:
    """Raw key per tenant of the demo; empty before the first run."""
    try:
        found = json.loads((state_dir / KEY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(slug): str(key) for slug, key in found.items()} if isinstance(found, dict) else {}


def _write_keys(path: Path, keys: dict[str, str]) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(keys, file, indent=2)


def _admin() -> str:
    """The password of the first account, an admin, made when nobody can sign in yet."""
    if User.objects.exists():
        return ""
    return create_person(username=ADMIN, role=Membership.Role.ADMIN, actor=ACTOR)
