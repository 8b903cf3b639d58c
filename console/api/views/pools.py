"""Pools: what is served, how many instances serve it, and rolling restarts."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Flag, Moment, Word
from console.api.inputs import Reason
from console.api.inputs.fleet import HoldScaling, NewPool, PoolChange, RollingRestart, Scale
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.fleet import OperationOutput
from console.api.outputs.pools import OperationStarted, PoolOutput, PoolSizeOutput, ScalingOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.fleet import selectors, services
from controlplane.fleet.models import Pool, ScalingRecord
from controlplane.rebalancing.selectors import active_scheduling_config
from controlplane.records.models import Operation


class PoolFilters(django_filters.FilterSet):
    engine = Choice(choices=Pool.Engine.choices)
    served_model = Word()


class Pools(ConsoleView):
    """Pools by name."""

    listing = Listing(
        output=PoolOutput,
        ordering={"name": "name", "created_at": "created_at"},
        default="name",
        filters=PoolFilters,
        search=("name", "served_model", "model_path"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.pools())

    @contract(body=NewPool, answer=PoolOutput, status=201)
    def post(self, request: Request) -> Response:
        """A new, empty pool."""
        given = checked(NewPool, request)
        return answered(services.create_pool(**given, actor=actor_of(request)), status=201)


class PoolDetail(ConsoleView):
    """One pool."""

    @contract(answer=PoolOutput)
    def get(self, request: Request, name: str) -> Response:
        return answered(find_pool(name))

    @contract(body=PoolChange, answer=PoolOutput, if_match=True)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given; what engines are started with takes effect at their next start."""
        given = checked(PoolChange, request)
        with unchanged(request, Pool.objects.all(), _state, name=name) as pool:
            pool = services.change_pool(pool=pool, **given, actor=actor_of(request))
        return answered(pool)

    @contract(body=Reason, status=204)
    def delete(self, request: Request, name: str) -> Response:
        """Forget a pool that has no running instances."""
        given = checked(Reason, request)
        services.delete_pool(pool=find_pool(name), actor=actor_of(request), reason=given["reason"])
        return Response(status=204)


class PoolScale(ConsoleView):
    """Ask for a number of instances; those too many are drained first."""

    @contract(body=Scale, answer=OperationStarted, status=202)
    def post(self, request: Request, name: str) -> Response:
        given = checked(Scale, request)
        return started(services.scale_pool(pool=find_pool(name), **given, actor=actor_of(request)))


class PoolRollingRestart(ConsoleView):
    """Start every instance again, one after the other, without losing a request."""

    @contract(body=RollingRestart, answer=OperationStarted, status=202)
    def post(self, request: Request, name: str) -> Response:
        """With new properties where they are given; a failure rolls them back."""
        given = checked(RollingRestart, request)
        return started(services.start_rolling_restart(pool=find_pool(name), **given, actor=actor_of(request)))

    @contract(body=Reason, answer=OperationStarted, status=202)
    def delete(self, request: Request, name: str) -> Response:
        """Cancel it: instances that were not started again stay as they are."""
        given = checked(Reason, request)
        operation = services.cancel_rolling_restart(
            pool=find_pool(name), actor=actor_of(request), reason=given["reason"]
        )
        return started(operation)


class PoolAutoscaling(ConsoleView):
    """Target, actual and ready size, the band, and whether the policy is held."""

    @contract(answer=PoolSizeOutput)
    def get(self, request: Request, name: str) -> Response:
        return Response(_size(find_pool(name)))


class PoolHold(ConsoleView):
    """Keep the policy from changing the pool's size."""

    @contract(body=HoldScaling, answer=PoolSizeOutput)
    def post(self, request: Request, name: str) -> Response:
        """Until then; people may still scale."""
        given = checked(HoldScaling, request)
        return Response(_size(services.hold_scaling(pool=find_pool(name), **given, actor=actor_of(request))))

    @contract(body=Reason, answer=PoolSizeOutput)
    def delete(self, request: Request, name: str) -> Response:
        """Let the policy scale again."""
        given = checked(Reason, request)
        pool = services.release_scaling(pool=find_pool(name), actor=actor_of(request), reason=given["reason"])
        return Response(_size(pool))


class ScalingFilters(django_filters.FilterSet):
    action = Choice(choices=ScalingRecord.Action.choices)
    actor = Word()
    carried_out = Flag()
    since = Moment(field_name="at", lookup_expr="gte")
    until = Moment(field_name="at", lookup_expr="lt")


class PoolScalingDecisions(ConsoleView):
    """Decisions about the pool's size, newest first, with reasons, also those not carried out."""

    listing = Listing(
        output=ScalingOutput,
        ordering={"id": "id", "at": "at"},
        default="-id",
        filters=ScalingFilters,
        search=("actor", "reason", "problem"),
    )

    @contract(lists=True)
    def get(self, request: Request, name: str) -> Any:
        return self.list(selectors.scaling_records(pool=find_pool(name).name).select_related("pool"))


def find_pool(name: str) -> Pool:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.pools(), name=name)


def answered(pool: Pool, status: int = 200) -> Response:
    return with_etag(Response(PoolOutput(pool).data, status=status), _state(pool))


def started(operation: Operation) -> Response:
    return Response({"operation": OperationOutput(operation).data}, status=202)


def _state(pool: Pool) -> Any:
    return {name: value for name, value in PoolOutput(pool).data.items() if name != "target_instances"}


def _size(pool: Pool) -> dict[str, Any]:
    size = selectors.pool_size(pool, now=timezone.now()).to_dict()
    return {**size, "scaling": active_scheduling_config(pool.name).to_dict()["scaling"]}
