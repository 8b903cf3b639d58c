"""What-if: two policies on one trace, simulated by the very same core on a queue of its own."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Word
from console.api.inputs import Reason
from console.api.inputs.fleet import NewTrace, NewWhatIf
from console.api.listing import Listing
from console.api.outputs.policies import TraceOutput, WhatIfDetailOutput, WhatIfOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.api.views.policies import named_pool
from controlplane.rebalancing import selectors, services
from controlplane.rebalancing.what_if_models import WhatIfJob, WhatIfTrace

UPLOAD_BYTES = 3 * 2**20


class TraceFilters(django_filters.FilterSet):
    source = Choice(choices=WhatIfTrace.Source.choices)
    created_by = Word()


class Traces(ConsoleView):
    """Traces to simulate, newest first."""

    max_body_bytes = UPLOAD_BYTES
    listing = Listing(
        output=TraceOutput,
        ordering={"id": "id", "name": "name", "rows": "rows", "created_at": "created_at"},
        default="-id",
        filters=TraceFilters,
        search=("name", "created_by"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.what_if_traces())

    @contract(body=NewTrace, answer=TraceOutput, status=201, problems=(429,))
    def post(self, request: Request) -> Response:
        """Upload a trace (CSV or JSON lines, plain text), or record what the pool served."""
        given = checked(NewTrace, request)
        if "content" in given:
            row = services.upload_trace(
                name=given["name"] or "upload", content=given["content"].encode(), actor=actor_of(request)
            )
        else:
            row = services.record_trace(
                pool=named_pool(given),
                since=given["since"],
                until=given["until"],
                name=given["name"],
                actor=actor_of(request),
            )
        return Response(TraceOutput(row).data, status=201)


class Trace(ConsoleView):
    """One trace."""

    @contract(answer=TraceOutput)
    def get(self, request: Request, trace_id: int) -> Response:
        return Response(TraceOutput(find_trace(trace_id)).data)

    @contract(body=Reason, status=204)
    def delete(self, request: Request, trace_id: int) -> Response:
        """Forget it, and the jobs on it."""
        checked(Reason, request)
        services.delete_trace(trace=find_trace(trace_id), actor=actor_of(request))
        return Response(status=204)


class JobFilters(django_filters.FilterSet):
    state = Choice(choices=WhatIfJob.State.choices)
    pool = Word(field_name="pool__name")
    created_by = Word()


class WhatIfs(ConsoleView):
    """Comparisons of two policies, newest first."""

    listing = Listing(
        output=WhatIfOutput,
        ordering={"id": "id", "created_at": "created_at"},
        default="-id",
        filters=JobFilters,
        search=("pool__name", "created_by", "problem"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.what_if_jobs())

    @contract(body=NewWhatIf, answer=WhatIfOutput, status=202, problems=(429,))
    def post(self, request: Request) -> Response:
        """Queue a comparison; watch it by its id until its state is final."""
        given = checked(NewWhatIf, request)
        trace = selectors.what_if_traces().filter(pk=given["trace"]).first()
        if trace is None:
            raise exceptions.ValidationError({"trace": f"there is no trace {given['trace']}"})
        job = services.start_what_if(
            trace=trace,
            pool=named_pool(given),
            policies=given["policies"],
            instances=given["instances"],
            latency=given["latency"],
            seed=given["seed"],
            actor=actor_of(request),
        )
        return Response(WhatIfOutput(job).data, status=202)


class WhatIf(ConsoleView):
    """One comparison with its result, as far as it is."""

    @contract(answer=WhatIfDetailOutput)
    def get(self, request: Request, job_id: int) -> Response:
        return Response(WhatIfDetailOutput(find_job(job_id)).data)


class WhatIfCancel(ConsoleView):
    """End a comparison that is not over."""

    @contract(body=Reason, answer=WhatIfOutput)
    def post(self, request: Request, job_id: int) -> Response:
        checked(Reason, request)
        services.cancel_what_if(job=find_job(job_id), actor=actor_of(request))
        return Response(WhatIfOutput(find_job(job_id)).data)


def find_trace(trace_id: int) -> WhatIfTrace:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.what_if_traces(), pk=trace_id)


def find_job(job_id: int) -> WhatIfJob:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.what_if_jobs(), pk=job_id)
