"""``manage.py fleet``: what the console's fleet pages do, from a shell. Wishes are rows: the loop and the
fleet's jobs carry them out, so that everything works with the console away."""

from __future__ import annotations

import getpass
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from controlplane import redis_client
from controlplane.fleet import live_status, selectors, services
from controlplane.fleet.models import Instance, Pool, TransitionError
from controlplane.fleet.services import FleetError
from controlplane.records.models import Operation

POLL_S = 0.5
HERE = "default"


class Command(BaseCommand):
    help = "List and change the fleet: instances, sizes, drains, restarts. `fleet ACTION --help` says more."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, (words, arguments, _) in ACTIONS.items():
            action = actions.add_parser(name, help=words)
            for argument in arguments:
                argument(action)

    def handle(self, *args: Any, **given: Any) -> None:
        _, _, act = ACTIONS[given["action"]]
        try:
            words = act(Namespace(**given))
        except (FleetError, TransitionError) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        self.stdout.write(words)


# ---- what can be said to it

Argument = Callable[[ArgumentParser], None]


def _pool_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--pool", default=HERE, help=f"default: {HERE}")


def _instance_argument(parser: ArgumentParser) -> None:
    parser.add_argument("instance", help="its id, as `fleet list` shows it")


def _reason_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="kept in the audit list")


def _wait_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="follow it for up to S seconds")


def _deadline_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--deadline", type=float, default=None, metavar="S", help="default: none")
    parser.add_argument(
        "--on-deadline",
        choices=Instance.OnDeadline.values,
        default=Instance.OnDeadline.WAIT,
        help="what becomes of requests that are left: wait for them, or recompute them elsewhere",
    )


def _json_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _count_argument(parser: ArgumentParser) -> None:
    parser.add_argument("count", type=int)


def _hold_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("minutes", type=float, help="for how long the policy may not change the size")


def _engine_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--engine-args", type=_json_object, default=None, metavar="JSON")
    parser.add_argument(
        "--migration-args", type=_json_object, default=None, metavar="JSON", help='e.g. {"copy_share": 0.1}'
    )
    parser.add_argument("--model", default=None, metavar="PATH")
    parser.add_argument("--python", default=None, metavar="PATH", help="interpreter of another version")
    parser.add_argument("--kv-memory-mib", type=int, default=None)


def _json_object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError
    return found


# ---- what it does


def _list(given: Namespace) -> str:
    sizes = [selectors.pool_size(pool, now=timezone.now()) for pool in selectors.pools()]
    loads = _loads()
    rows = [_row(row, loads) for row in selectors.instances()]
    if given.json:
        pools = [size.to_dict() for size in sizes]
        return json.dumps({"pools": pools, "instances": rows}, indent=2, default=str)
    lines = [
        f"pool {size.pool}: target {size.target}, present {size.actual}, ready {size.ready} "
        f"({size.min_instances} to {size.max_instances} allowed)"
        + (
            f"; scaling held until {size.held_until:%H:%M:%S} UTC by {size.held_by}"
            if size.held_until
            else ""
        )
        for size in sizes
    ]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _loads() -> dict[str, live_status.SeenStatus]:
    try:
        return {each.status.instance_id: each for each in live_status.read_statuses(time.time())}
    except (redis_client.RedisError, OSError):
        return {}


def _row(row: Instance, loads: dict[str, live_status.SeenStatus]) -> dict[str, Any]:
    seen = loads.get(row.instance_id)
    return {
        "instance_id": row.instance_id,
        "pool": row.pool.name,
        "state": row.state,
        "cause": row.cause,
        "since": row.changed_at,
        "revision": row.pool_revision,
        "pool_revision": row.pool.revision,
        "failures": row.failures,
        "running": seen.status.running if seen else None,
        "waiting": seen.status.waiting if seen else None,
        "report_age_s": round(seen.age_s, 1) if seen else None,
    }


def _line(row: dict[str, Any]) -> str:
    load = "no report" if row["running"] is None else f"{row['running']} running, {row['waiting']} waiting"
    old = " (older properties)" if 0 < row["revision"] < row["pool_revision"] else ""
    return f"  {row['instance_id']:<16} {row['state']:<11} {load:<24} {row['cause']}{old}"


def _add(given: Namespace) -> str:
    rows = services.add_instances(pool=_pool(given), count=given.count, actor=_actor(), reason=given.reason)
    return f"added {', '.join(row.instance_id for row in rows)}"


def _scale(given: Namespace) -> str:
    running = {name: seen.status.running + seen.status.waiting for name, seen in _loads().items()}
    operation = services.scale_pool(
        pool=_pool(given), target=given.count, actor=_actor(), reason=given.reason, running=running
    )
    return _follow(operation.operation_id, given.wait)


def _remove(given: Namespace) -> str:
    return _wish(services.remove_instance, given, **_deadline(given))


def _drain(given: Namespace) -> str:
    return _wish(services.drain_instance, given, **_deadline(given))


def _restart(given: Namespace) -> str:
    return _wish(services.restart_instance, given, **_deadline(given))


def _undrain(given: Namespace) -> str:
    return _wish(services.undrain_instance, given)


def _migrate_all(given: Namespace) -> str:
    return _wish(services.migrate_all, given)


def _stop(given: Namespace) -> str:
    return _wish(services.stop_instance, given)


def _release(given: Namespace) -> str:
    return _wish(services.release_instance, given)


def _rolling_restart(given: Namespace) -> str:
    operation = services.start_rolling_restart(
        pool=_pool(given),
        actor=_actor(),
        reason=given.reason,
        engine_args=given.engine_args,
        migration_args=given.migration_args,
        model_path=given.model,
        python=given.python,
        kv_memory_bytes=None if given.kv_memory_mib is None else given.kv_memory_mib * 2**20,
        **_deadline(given),
    )
    return _follow(operation.operation_id, given.wait)


def _cancel_rolling_restart(given: Namespace) -> str:
    services.cancel_rolling_restart(pool=_pool(given), actor=_actor(), reason=given.reason)
    return "no further instance is restarted"


def _hold(given: Namespace) -> str:
    until = timezone.now() + timedelta(minutes=given.minutes)
    services.hold_scaling(pool=_pool(given), until=until, actor=_actor(), reason=given.reason)
    return f"the policy leaves the size of pool {given.pool} alone until {until:%Y-%m-%d %H:%M:%S} UTC"


def _resume(given: Namespace) -> str:
    services.release_scaling(pool=_pool(given), actor=_actor(), reason=given.reason)
    return f"the policy may change the size of pool {given.pool} again"


def _log(given: Namespace) -> str:
    _find(given.instance)
    return selectors.agent_log(given.instance) or "no log on this machine"


ON_INSTANCE = (_instance_argument, _reason_argument, _wait_argument)
ON_POOL = (_pool_argument, _reason_argument)
ACTIONS: dict[str, tuple[str, tuple[Argument, ...], Callable[[Namespace], str]]] = {
    "list": ("pools and instances, with their load", (_json_argument,), _list),
    "add": ("start more instances", (_count_argument, *ON_POOL), _add),
    "remove": ("drain an instance, stop it, have one less", (*ON_INSTANCE, _deadline_arguments), _remove),
    "scale": ("have so many instances", (_count_argument, *ON_POOL, _wait_argument), _scale),
    "drain": ("no new work; what runs moves away", (*ON_INSTANCE, _deadline_arguments), _drain),
    "undrain": ("take work again", ON_INSTANCE, _undrain),
    "restart": ("drain, stop and start again", (*ON_INSTANCE, _deadline_arguments), _restart),
    "migrate-all": ("empty it once", ON_INSTANCE, _migrate_all),
    "stop": ("end it now; its requests are recomputed elsewhere", ON_INSTANCE, _stop),
    "release": ("try a quarantined or stopped instance again", ON_INSTANCE, _release),
    "rolling-restart": (
        "restart all, one at a time, with new properties where given",
        (*ON_POOL, _wait_argument, _deadline_arguments, _engine_arguments),
        _rolling_restart,
    ),
    "cancel-rolling-restart": ("restart no further instance", ON_POOL, _cancel_rolling_restart),
    "hold": ("keep the policy from changing the size", (_hold_arguments, *ON_POOL), _hold),
    "resume": ("let the policy change the size again", ON_POOL, _resume),
    "log": ("the end of an agent's log", (_instance_argument,), _log),
}


def _wish(service: Callable[..., Instance], given: Namespace, **more: Any) -> str:
    row = service(instance=_find(given.instance), actor=_actor(), reason=given.reason, **more)
    if given.wait and row.operation_id:
        return _follow(row.operation_id, given.wait)
    return f"{row.instance_id} is {row.state}: {row.cause}"


def _deadline(given: Namespace) -> dict[str, Any]:
    return {"deadline_s": given.deadline, "on_deadline": given.on_deadline}


def _follow(operation_id: str, wait_s: float) -> str:
    """How it stands, at its end or after ``wait_s``. Raises ``CommandError`` when it failed or goes on."""
    deadline_s = time.monotonic() + wait_s
    while True:
        row = Operation.objects.get(operation_id=operation_id)
        if row.is_final or time.monotonic() >= deadline_s:
            break
        time.sleep(POLL_S)
    words = f"{row.operation_id} {row.kind} {row.object_id}: {row.state}"
    if row.state == Operation.State.RUNNING and wait_s:
        raise CommandError(f"{words} after {wait_s:g} s ({row.done} of {row.total}; {row.note})")
    if row.state in {Operation.State.FAILED, Operation.State.CANCELLED}:
        raise CommandError(f"{words}: {row.problem}")
    return words


def _pool(given: Namespace) -> Pool:
    try:
        return selectors.pool_by_name(given.pool)
    except Pool.DoesNotExist:
        names = ", ".join(selectors.pools().values_list("name", flat=True)) or "none"
        raise CommandError(f"there is no pool {given.pool!r}; pools: {names}") from None


def _find(instance_id: str) -> Instance:
    try:
        return selectors.instance_by_id(instance_id)
    except Instance.DoesNotExist:
        raise CommandError(f"there is no instance {instance_id!r}: see `fleet list`") from None


def _actor() -> str:
    return f"shell:{getpass.getuser()}"
