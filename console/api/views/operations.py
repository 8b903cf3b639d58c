"""Long actions: what runs, how far it is, how it ended."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Word
from console.api.listing import Listing
from console.api.outputs.fleet import OperationOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView
from controlplane.records.models import Operation
from controlplane.records.operations import operations


class OperationFilters(django_filters.FilterSet):
    state = Choice(choices=Operation.State.choices)
    kind = Word()
    object_type = Word()
    object_id = Word()
    actor = Word()


class Operations(ConsoleView):
    """Long actions, newest first."""

    listing = Listing(
        output=OperationOutput,
        ordering={"id": "id", "created_at": "created_at", "updated_at": "updated_at"},
        default="-id",
        filters=OperationFilters,
        search=("kind", "object_id", "actor", "note", "problem"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(operations())


class OperationDetail(ConsoleView):
    """One long action; ask again until its state is not ``running``."""

    @contract(answer=OperationOutput)
    def get(self, request: Request, operation_id: str) -> Response:
        return Response(OperationOutput(get_object_or_404(operations(), operation_id=operation_id)).data)
