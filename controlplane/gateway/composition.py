"""The composition root: the real world behind the gateway's ports. Needs Django set up."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import ipaddress
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import DatabaseError, DataError, close_old_connections

from controlplane.fleet.models import Pool
from controlplane.gateway.abuse import Excess
from controlplane.gateway.commands import CommandFeed, LiveWork
from controlplane.gateway.fleet_view import FleetView, StatusFeed
from controlplane.gateway.limits.redis_store import RedisStore
from controlplane.gateway.limits.steady_store import SteadyStore
from controlplane.gateway.process import Options, Ports, Rules
from controlplane.gateway.reporting import StatusPublisher
from controlplane.gateway.tenancy_watch import EventFeed, TenancyPorts
from controlplane.rebalancing.selectors import active_scheduling_config
from controlplane.records.services import audit, record_requests
from controlplane.records.types import FinishedRequest
from controlplane.tenancy.selectors import (
    authenticate_key,
    class_rules,
    identity_of_key,
    reclassified_tenants,
)
from controlplane.tenancy.services import note_key_uses
from controlplane.tenancy.types import KeyIdentity
from engine_agents.messages import GatewayStatus
from engine_agents.tracing import otlp_spans
from engine_agents.vllm_engine.environment import loading, stay_offline_for
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

RECLASSIFY_WINDOW = timedelta(hours=1)
"""A gateway that was away for longer does not catch up: its streams are gone anyway."""


class StartError(Exception):
    """The gateway cannot start; ``str(self)`` says what to change."""


def options_from(args: argparse.Namespace, port: int) -> Options:
    """What the command line says, filled up from the pool's row. Raises :class:`StartError`."""
    named = bool(args.model and args.served_model_name)
    pool = _pool(args.pool, needed=not named)
    engine_args: dict[str, Any] = dict(pool.engine_args) if pool and pool.engine == Pool.Engine.VLLM else {}
    if args.max_model_len:
        engine_args["max_model_len"] = args.max_model_len
    if pool and pool.engine != Pool.Engine.VLLM and not args.model:
        raise StartError(f"pool {args.pool!r} is simulated and has no tokenizer; give --model.")
    path = args.model or pool.model_path  # type: ignore[union-attr]
    _check_model(path)
    model = FrontHalfConfig(
        model=path,
        served_model=args.served_model_name or pool.served_model,  # type: ignore[union-attr]
        engine_args=engine_args,
    )
    gateway_id = args.gateway_id or f"gateway-{secrets.token_hex(4)}"
    return Options(
        gateway_id, args.pool, model, url=f"http://{args.host}:{port}", link_secret=settings.LINK_SECRET
    )


def _check_model(model: str) -> None:
    """A folder is looked at before vLLM is loaded, which takes seconds."""
    folder = Path(model)
    if model.startswith(("/", ".", "~")) and not (folder / "config.json").is_file():
        raise StartError(f"{model!r} holds no config.json: give a model's folder, or a hub name, as --model.")


def _pool(name: str, *, needed: bool) -> Pool | None:
    try:
        pool = Pool.objects.filter(name=name).first()
    except DatabaseError as error:
        if not needed:
            return None
        raise StartError(
            f"the database cannot be read ({type(error).__name__}): check DATABASE_URL, "
            "run 'manage.py migrate', or give --model and --served-model-name."
        ) from error
    if pool is None and needed:
        raise StartError(f"there is no pool {name!r}: create it, or give --model and --served-model-name.")
    return pool


def real_ports(pool: str) -> Ports:
    """Database, Redis, vLLM, the clocks."""

    def read_rules() -> Rules:
        close_old_connections()
        recently = _utc_now() - RECLASSIFY_WINDOW
        return Rules(active_scheduling_config(pool), class_rules(), reclassified_tenants(recently))

    return Ports(
        lookup_key=_lookup_key,
        write_records=_write_records,
        read_rules=read_rules,
        build_front=_build_front,
        follow_fleet=_follow_fleet,
        publish=_publish,
        clock=time.monotonic,
        wall_clock=_utc_now,
        follow_commands=_follow_commands,
        internal_token=settings.INTERNAL_TOKEN,
        spans=otlp_spans("llumdeck-gateway", settings.OTLP_ENDPOINT),
        tenancy=TenancyPorts(
            rights_of_key=_in_thread(identity_of_key),
            note_uses=_in_thread(note_key_uses),
            write_excess=_in_thread(_write_excess),
            follow=lambda hear: EventFeed(hear).run(),
        ),
        trusted_proxies=tuple(ipaddress.ip_network(each) for each in settings.TRUSTED_PROXIES),
        limit_store=lambda holder: SteadyStore(RedisStore(holder), time.monotonic),
    )


def _lookup_key(raw_key: str, now: datetime) -> KeyIdentity | None:
    close_old_connections()
    return authenticate_key(raw_key, now)


def _in_thread(function: Callable[P, T]) -> Callable[P, T]:
    """For a thread that may hold a database connection that has died."""

    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        close_old_connections()
        return function(*args, **kwargs)

    return called


def _write_excess(excess: Sequence[Excess]) -> None:
    """Wishes beyond rights, to the audit list."""
    for each in excess:
        audit(
            actor=f"key:{each.key_prefix}",
            action="request.lower_class" if each.served else "request.refuse_class",
            object_type="tenant",
            object_id=each.tenant_slug,
            before={"asked": each.asked},
            after={"served": each.served, "times": each.times},
            reason="the key has no right to what was asked for",
        )


def _write_records(finished: Sequence[FinishedRequest]) -> int:
    """One that the database does not take (never seen, yet thinkable) must not hold up all others."""
    close_old_connections()
    try:
        return record_requests(finished)
    except DataError:
        return sum(_write_one(item) for item in finished)


def _write_one(item: FinishedRequest) -> int:
    try:
        return record_requests([item])
    except DataError as error:
        logger.error("request %s cannot be recorded: %s", item.request_id, error)
        return 0


async def _build_front(config: FrontHalfConfig, port: EngineClientPort) -> FrontHalf:
    """vLLM takes seconds to import: meanwhile the door answers that the gateway is starting."""
    stay_offline_for(config.model)
    with loading():
        frontend = await asyncio.to_thread(importlib.import_module, "engine_agents.vllm_engine.frontend")
    front: FrontHalf = await frontend.build_front_half(config, port)
    return front


async def _follow_fleet(view: FleetView, on_change: Callable[[], None]) -> None:
    await StatusFeed(view, time.monotonic, time.time, on_change).run()


async def _follow_commands(work: LiveWork) -> None:
    await CommandFeed(work).run()


async def _publish(gateway_id: str, report: Callable[[], GatewayStatus]) -> None:
    await StatusPublisher(gateway_id, report).run()


def _utc_now() -> datetime:
    return datetime.now(UTC)
