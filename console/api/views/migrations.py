"""Migrations of requests and the rounds that decided them."""

from __future__ import annotations

from django.db.models import Q
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.inputs import MoveRequest
from console.api.outputs import MigrationOutput, RoundDetailOutput, RoundOutput
from console.api.pagination import page
from console.api.problems import Conflict
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.rebalancing import selectors
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.services import MoveError, request_migration


class Migrations(ConsoleView):
    """``GET ?state=&final=&instance=&tenant=&request_id=``, newest first; ``POST`` moves one request."""

    def get(self, request: Request) -> Response:
        asked = request.query_params
        rows = selectors.migrations(
            state=_state(asked.get("state", "")), request_id=asked.get("request_id", "")
        )
        if _flag("final", asked.get("final", "")):
            rows = rows.filter(state__in=RequestMigration.FINAL_STATES)
        if instance := asked.get("instance", ""):
            rows = rows.filter(Q(source=instance) | Q(destination=instance))
        if tenant := asked.get("tenant", ""):
            rows = rows.filter(tenant=tenant)
        return page(rows, MigrationOutput, view=self, ordering="-id")

    def post(self, request: Request) -> Response:
        given = checked(MoveRequest, request)
        try:
            row = request_migration(
                request_id=given["request_id"],
                source_id=given["source"],
                destination_id=given["destination"],
                actor=actor_of(request),
                reason=given["reason"],
            )
        except MoveError as error:
            raise Conflict(str(error)) from error
        return Response({"migration_id": row.migration_id, **MigrationOutput(row).data}, status=202)


class MigrationDetail(ConsoleView):
    def get(self, request: Request, migration_id: str) -> Response:
        return Response(
            MigrationOutput(get_object_or_404(selectors.migrations(), migration_id=migration_id)).data
        )


class Rounds(ConsoleView):
    """``GET ?pool=``: rounds that decided something, newest first."""

    def get(self, request: Request) -> Response:
        rows = selectors.rounds(pool=request.query_params.get("pool", "")).defer(
            "snapshot", "state_before", "config"
        )
        return page(rows, RoundOutput, view=self, ordering="-id")


class RoundDetail(ConsoleView):
    def get(self, request: Request, round_id: int) -> Response:
        return Response(RoundDetailOutput(get_object_or_404(selectors.rounds(), pk=round_id)).data)


def _state(value: str) -> str:
    if value and value not in RequestMigration.State.values:
        raise exceptions.ValidationError(
            {"state": f"must be one of: {', '.join(RequestMigration.State.values)}"}
        )
    return value


def _flag(name: str, value: str) -> bool:
    if value not in {"", "true", "false"}:
        raise exceptions.ValidationError({name: "must be true or false"})
    return value == "true"
