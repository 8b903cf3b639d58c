"""Migrations of requests and the rounds that decided them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Flag, Moment, WholeNumber, Word
from console.api.inputs import MoveRequest
from console.api.listing import Listing, check_parameters, filtered
from console.api.outputs.fleet import (
    ExplanationOutput,
    MigrationDryRun,
    MigrationOutput,
    MigrationWished,
    RoundDetailOutput,
    RoundOutput,
)
from console.api.outputs.migrations import MigrationSummaryOutput
from console.api.schema import contract
from console.api.spans import span
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.fleet.selectors import instances
from controlplane.rebalancing import explanations, selectors
from controlplane.rebalancing.migration_summary import summarise_migrations
from controlplane.rebalancing.models import RebalanceRound, RequestMigration
from controlplane.rebalancing.services import check_move, request_migration

NARROWING = (
    "state", "pool", "done", "instance", "source", "destination", "tenant", "slo_class", "rule",
)  # fmt: skip
SPAN = {"since": "RFC 3339; a day before until by default.", "until": "RFC 3339; now by default."}


class MigrationFilters(django_filters.FilterSet):
    state = Choice(choices=RequestMigration.State.choices)
    pool = Word(method="by_pool", help_text="Of instances of this pool.")
    done = Flag(method="by_done", help_text="Only those that arrived, or only those that were stopped.")
    final = Flag(method="by_final", help_text="Only those that ended, or only those under way.")
    instance = Word(method="by_instance", help_text="Source or destination.")
    source = Word()
    destination = Word()
    request_id = Word()
    tenant = Word()
    slo_class = Word()
    rule = Word()
    round = WholeNumber(field_name="round_id")
    since = Moment(field_name="started_at", lookup_expr="gte")
    until = Moment(field_name="started_at", lookup_expr="lt")

    def by_final(self, rows: QuerySet[RequestMigration], name: str, value: bool | None) -> Any:
        final = Q(state__in=RequestMigration.FINAL_STATES)
        return rows if value is None else rows.filter(final if value else ~final)

    def by_pool(self, rows: QuerySet[RequestMigration], name: str, value: str) -> Any:
        return rows.filter(source__in=instances().filter(pool__name=value).values("instance_id"))

    def by_done(self, rows: QuerySet[RequestMigration], name: str, value: bool | None) -> Any:
        done, stopped = RequestMigration.State.DONE, [*RequestMigration.STOPPED_STATES]
        return rows if value is None else rows.filter(state__in=[done] if value else stopped)

    def by_instance(self, rows: QuerySet[RequestMigration], name: str, value: str) -> Any:
        return rows.filter(Q(source=value) | Q(destination=value))


class Migrations(ConsoleView):
    """Moves of requests between instances, newest first."""

    listing = Listing(
        output=MigrationOutput,
        ordering={"id": "id", "started_at": "started_at", "tokens_moved": "tokens_moved"},
        default="-id",
        filters=MigrationFilters,
        search=("request_id", "source", "destination", "reason", "why", "tenant"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.migrations())

    @contract(body=MoveRequest, answer=MigrationWished, status=202, also={200: MigrationDryRun})
    def post(self, request: Request) -> Response:
        """Move one request by hand; ``dry_run`` says what it would meet and moves nothing (status 200)."""
        given = checked(MoveRequest, request)
        names = {
            "request_id": given["request_id"],
            "source_id": given["source"],
            "destination_id": given["destination"],
        }
        if given["dry_run"]:
            return Response(MigrationDryRun(check_move(**names)).data)
        row = request_migration(**names, actor=actor_of(request), reason=given["reason"])
        return Response(MigrationWished(row).data, status=202)


class MigrationSummary(ConsoleView):
    """Migrations that began in a span of time, counted by pair, rule and reason, with their pauses."""

    listing = Listing(output=MigrationOutput, ordering={"id": "id"}, default="-id", filters=MigrationFilters)

    @contract(answer=MigrationSummaryOutput, query={**SPAN, **dict.fromkeys(NARROWING, "As in /migrations.")})
    def get(self, request: Request) -> Response:
        check_parameters(request, frozenset({*SPAN, *NARROWING}))
        since, until = span(request, default=timedelta(days=1))
        rows = filtered(selectors.migrations(), self.listing, request)
        return Response(summarise_migrations(rows, since=since, until=until))


class MigrationDetail(ConsoleView):
    """One move with its stages."""

    @contract(answer=MigrationOutput)
    def get(self, request: Request, migration_id: str) -> Response:
        row = get_object_or_404(selectors.migrations(), migration_id=migration_id)
        return Response(MigrationOutput(row).data)


class RoundFilters(django_filters.FilterSet):
    pool = Word(field_name="pool__name")
    epoch = WholeNumber()
    since = Moment(field_name="taken_at", lookup_expr="gte")
    until = Moment(field_name="taken_at", lookup_expr="lt")


class Rounds(ConsoleView):
    """Rounds of the loop that decided something, newest first."""

    listing = Listing(
        output=RoundOutput,
        ordering={"id": "id", "taken_at": "taken_at", "duration_ms": "duration_ms"},
        default="-id",
        filters=RoundFilters,
        search=("pool__name",),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.rounds().defer("snapshot", "state_before", "config"))


class RoundDetail(ConsoleView):
    """One round, with all that is needed to decide it again."""

    @contract(answer=RoundDetailOutput)
    def get(self, request: Request, round_id: int) -> Response:
        return Response(RoundDetailOutput(find_round(round_id)).data)


class RoundExplain(ConsoleView):
    """Why one of a round's decisions was taken, by the policy core, from what was recorded."""

    @contract(answer=ExplanationOutput, query={"decision": "Place in the round's list, 0 by default."})
    def get(self, request: Request, round_id: int) -> Response:
        raw = request.query_params.get("decision", "0")
        if not raw.isascii() or not raw.isdigit() or len(raw) > 6:
            raise exceptions.ValidationError({"decision": "must be a place in the list, from 0"})
        found = explanations.explain_round(find_round(round_id), int(raw))
        if found is None:
            raise exceptions.NotFound(f"The round has no decision {raw}.")
        return Response(ExplanationOutput(found).data)


def find_round(round_id: int) -> RebalanceRound:
    """Raises ``Http404``."""
    row = selectors.rounds().filter(pk=round_id).first()
    if row is None:
        raise Http404
    return row
