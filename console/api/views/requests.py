"""Requests: the live ones, those that finished, and the life of one. Never their text."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import django_filters
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts.principals import Role
from console.api.filters import Flag, Moment, WholeNumber, Word
from console.api.inputs import Reason
from console.api.inputs.fleet import RequestClass
from console.api.listing import Listing, list_items, list_rows
from console.api.outputs import Json
from console.api.outputs.fleet import CommandOutput, RequestDetailOutput, RequestOutput
from console.api.problems import Conflict
from console.api.schema import contract
from console.api.timeline import Life, Move, segments, timeline
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.api.views.tenants.lookups import class_named
from console.dashboard.live_requests import live_requests
from controlplane import redis_client
from controlplane.fleet.gateway_commands import GatewayAnswer, cancel_request, set_request_class
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.selectors import migrations
from controlplane.records.models import RequestRecord
from controlplane.records.selectors import finished_requests
from controlplane.tenancy.selectors import tenants

NOT_HEARD = "X-Not-Heard"
SHORTEST_CLIENT_ID = 16
"""Less would be the beginning of many."""
LIVE_FILTERS = ("state", "instance", "tenant", "slo_class")


class RecordOutput(RequestOutput):
    """A finished request in the shape of all requests; ``context["slugs"]`` names tenants."""

    def shape(self, item: Any) -> Json:
        return item if isinstance(item, dict) else _record(item, self.context.get("slugs", {}))


class RecordFilters(django_filters.FilterSet):
    slo_class = Word(field_name="slo_class_served")
    instance = Word(method="by_instance", help_text="Ran there at some time.")
    outcome = Word(help_text="stop, length, abort, or error: and why")
    model = Word()
    tenant = Word(method="by_tenant")
    key = WholeNumber(field_name="key_id")
    moved = Flag(method="by_moved")
    since = Moment(field_name="finished_at", lookup_expr="gte")
    until = Moment(field_name="finished_at", lookup_expr="lt")
    state = Word(method="anything", help_text="Of live ones: queued, waiting, running, preempted, frozen.")

    def by_instance(self, rows: Any, name: str, value: str) -> Any:
        return rows.filter(instance_ids__icontains=f'"{value}"')

    def by_tenant(self, rows: Any, name: str, value: str) -> Any:
        return rows.filter(tenant_id__in=tenants().filter(slug=value).values("pk"))

    def by_moved(self, rows: Any, name: str, value: bool | None) -> Any:
        return rows if value is None else rows.filter(moves__gt=0) if value else rows.filter(moves=0)

    def anything(self, rows: Any, name: str, value: str) -> Any:
        return rows.none() if value and value != "finished" else rows


ORDER = {"id": "id", "finished_at": "finished_at", "arrived_at": "arrived_at",
         "prompt_tokens": "prompt_tokens", "output_tokens": "output_tokens"}  # fmt: skip
LIVE_ORDER = {"id": "request_id", "arrived_at": "arrived_at", "prompt_tokens": "prompt_tokens",
              "output_tokens": "output_tokens", "blocks": "blocks"}  # fmt: skip


class Requests(ConsoleView):
    """Live requests (``live=true``, the default) or finished ones (``live=false``), newest first.

    Instances that did not say in time what runs there are named in the header ``X-Not-Heard``.
    """

    listing = Listing(
        output=RecordOutput,
        ordering=ORDER,
        default="-id",
        filters=RecordFilters,
        search=("request_id", "model", "outcome"),
        described={"live": "true (default) or false."},
    )
    live_listing = Listing(
        output=RecordOutput,
        ordering=LIVE_ORDER,
        default="-arrived_at",
        search=("request_id", "tenant", "slo_class_served", "state", "instance"),
        described={**dict.fromkeys(LIVE_FILTERS, ""), "live": ""},
    )

    @contract(lists=True, answer=RequestOutput)
    def get(self, request: Request) -> Any:
        live = request.query_params.get("live", "true")
        if live not in {"true", "false"}:
            raise exceptions.ValidationError({"live": "must be true or false"})
        return self._live() if live == "true" else self._finished()

    def _live(self) -> Any:
        found = live_requests()
        rows = [row for row in found.rows if _seen_by(self, row["tenant"]) and self._matches(row)]
        answer = list_items(self.live_listing, rows, self)
        answer.headers[NOT_HEARD] = ",".join(found.not_heard)
        return answer

    def _matches(self, row: Json) -> bool:
        asked = self.request.query_params
        columns = {
            "state": "state",
            "instance": "instance",
            "tenant": "tenant",
            "slo_class": "slo_class_served",
        }
        return all(not asked.get(name) or row[column] == asked[name] for name, column in columns.items())

    def _finished(self) -> Any:
        slugs = dict(tenants().values_list("pk", "slug"))
        rows = finished_requests()
        if self.principal.role == Role.TENANT_OWNER:
            rows = rows.filter(
                tenant_id__in=[pk for pk, slug in slugs.items() if slug in self.principal.tenants]
            )
        return list_rows(self.listing, rows, self, {"slugs": slugs})


class RequestDetail(ConsoleView):
    """One request, live or finished, with its timeline."""

    @contract(answer=RequestDetailOutput)
    def get(self, request: Request, request_id: str) -> Response:
        row, life = find_request(self, request_id)
        return Response(
            RequestDetailOutput().to_representation(
                {
                    **row,
                    "timeline": timeline(life),
                    "segments": segments(life, timezone.now()),
                    "migrations": [move.migration_id for move in life.moves],
                }
            )
        )


class RequestCancel(ConsoleView):
    """End a live request; its client is told so."""

    @contract(body=Reason, answer=CommandOutput)
    def post(self, request: Request, request_id: str) -> Response:
        given = checked(Reason, request)
        check_seen(self, request_id)
        return answered(
            request_id,
            cancel_request(request_id=request_id, actor=actor_of(request), reason=given["reason"]),
        )


class RequestSetClass(ConsoleView):
    """Serve a live request as another class from now on."""

    @contract(body=RequestClass, answer=CommandOutput)
    def post(self, request: Request, request_id: str) -> Response:
        given = checked(RequestClass, request)
        name = class_named(given["slo_class"]).name
        answer = set_request_class(
            request_id=request_id, slo_class=name, actor=actor_of(request), reason=given["reason"]
        )
        return answered(request_id, answer)


def answered(request_id: str, answer: GatewayAnswer | None) -> Response:
    """Raises 404 where no gateway has it, 409 where its gateway would not."""
    if answer is None:
        raise exceptions.NotFound("No gateway serves this request now; it may be over.")
    if not answer.ok:
        raise Conflict(answer.why or "Its gateway refused without a reason.")
    return Response({"request_id": request_id, "done": True, "detail": answer.why})


def check_seen(view: ConsoleView, request_id: str) -> None:
    """A tenant owner reaches only requests of their tenants. Raises ``NotFound``."""
    if view.principal.role == Role.TENANT_OWNER:
        find_request(view, request_id)


def find_request(view: ConsoleView, request_id: str) -> tuple[Json, Life]:
    """By its id, or by the id that its client was told, which ours begins with.

    Raises ``NotFound``, for another tenant's as for none.
    """
    finished = finished_requests()
    record = finished.filter(request_id=request_id).first()
    if record is None and len(request_id) >= SHORTEST_CLIENT_ID:
        record = finished.filter(request_id__startswith=f"{request_id}-").first()
    if record is not None:
        row = _record(record, dict(tenants().values_list("pk", "slug")))
    else:
        row = next((each for each in _live_rows() if is_called(each["request_id"], request_id)), {})
    if not row or not _seen_by(view, row["tenant"]):
        raise exceptions.NotFound("No request has this id: it is unknown, or was forgotten.")
    return row, _life(row, record)


def is_called(ours: str, asked: str) -> bool:
    """vLLM adds to the id it tells a client what makes it unique inside."""
    return ours == asked or (len(asked) >= SHORTEST_CLIENT_ID and ours.startswith(f"{asked}-"))


def _live_rows() -> list[Json]:
    try:
        return live_requests().rows
    except (redis_client.RedisError, OSError):
        return []


def _seen_by(view: ConsoleView, tenant: str) -> bool:
    return view.principal.role != Role.TENANT_OWNER or tenant in view.principal.tenants


def _record(item: RequestRecord, slugs: dict[int, str]) -> Json:
    return {
        "request_id": item.request_id,
        "tenant": slugs.get(item.tenant_id or 0, ""),
        "slo_class_asked": item.slo_class_asked or None,
        "slo_class_served": item.slo_class_served,
        "state": "finished",
        "instance": item.instance_ids[-1] if item.instance_ids else None,
        "prompt_tokens": item.prompt_tokens,
        "output_tokens": item.output_tokens,
        "queued_ms": item.queued_ms,
        "ttft_ms": item.ttft_ms,
        "tpot_ms": item.tpot_ms,
        "moves": item.moves,
        "recoveries": item.recoveries,
        "arrived_at": item.arrived_at,
        "finished_at": item.finished_at,
        "outcome": item.outcome,
    }


def _life(row: Json, record: RequestRecord | None) -> Life:
    moves = [_move(each) for each in migrations(request_id=row["request_id"]).order_by("id")]
    arrived: datetime = row["arrived_at"]
    if record is None:
        instance = row["instance"]
        source = next((move.source for move in moves), instance)
        here = [name for name in dict.fromkeys([source, instance]) if name]
        return Life(arrived, arrived if instance else None, None, None, "", here, moves)
    bound = arrived + timedelta(milliseconds=record.queued_ms) if record.instance_ids else None
    return Life(
        arrived, bound, record.first_token_at, record.finished_at, record.outcome, record.instance_ids, moves
    )


def _move(row: RequestMigration) -> Move:
    return Move(
        migration_id=row.migration_id,
        source=row.source,
        destination=row.destination,
        state=row.state,
        rule=row.rule,
        reason=row.reason,
        started_at=row.started_at,
        finished_at=row.finished_at,
        downtime_ms=row.downtime_ms,
        stages=row.stages,
    )
