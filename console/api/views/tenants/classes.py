"""SLO classes: what each is promised, and its right of way."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.inputs import Reason
from console.api.inputs.tenants import ClassChange, NewClass
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.tenants import ClassOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import SLOClass


class Classes(ConsoleView):
    """The SLO classes, first served first."""

    listing = Listing(
        output=ClassOutput,
        ordering={"rank": "rank", "name": "name"},
        default="rank",
        search=("name", "description"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.slo_classes())

    @contract(body=NewClass, answer=ClassOutput, status=201)
    def post(self, request: Request) -> Response:
        """A new class."""
        given = checked(NewClass, request)
        return answered(services.create_class(**given, actor=actor_of(request)), status=201)


class Class(ConsoleView):
    """One SLO class."""

    @contract(answer=ClassOutput)
    def get(self, request: Request, name: str) -> Response:
        return answered(get_object_or_404(selectors.slo_classes(), name=name))

    @contract(body=ClassChange, answer=ClassOutput, if_match=True)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given; gateways follow within seconds."""
        given = checked(ClassChange, request)
        with unchanged(request, SLOClass.objects.all(), _state, name=name) as row:
            services.update_class(slo_class=row, **given, actor=actor_of(request))
        return answered(get_object_or_404(selectors.slo_classes(), name=name))

    @contract(body=Reason, status=204)
    def delete(self, request: Request, name: str) -> Response:
        """Remove a class that no tenant has by default."""
        given = checked(Reason, request)
        row = get_object_or_404(selectors.slo_classes(), name=name)
        services.delete_class(slo_class=row, actor=actor_of(request), reason=given["reason"])
        return Response(status=204)


def answered(row: SLOClass, status: int = 200) -> Response:
    return with_etag(Response(ClassOutput(row).data, status=status), _state(row))


def _state(row: SLOClass) -> Any:
    return ClassOutput(row).data
