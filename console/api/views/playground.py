"""Trying the model out of the console: a signed-in person's chat, streamed from a gateway."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from console.api.inputs.playground import Chat
from console.api.problems import Unavailable
from console.api.relay import NO_GATEWAY, Relay, open_relay
from console.api.request_id import HEADER, request_id_of
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, address_of, checked
from console.api.views.tenants.lookups import class_named, find_tenant
from controlplane.fleet.live_status import read_gateways
from controlplane.records.origin import Origin, acting_for
from controlplane.tenancy.models import ApiKey
from controlplane.tenancy.services import borrow_key, revoke_key
from engine_agents.messages import GatewayStatus

SILENT_S = 10.0
"""A gateway that has not reported for so long is taken for down."""


class EventStream(JSONRenderer):
    """Lets callers ask for a stream of events; what is refused is JSON all the same."""

    media_type = "text/event-stream"


class PlaygroundChat(ConsoleView):
    """A chat for a tenant, under its limits, as any request of one of its keys."""

    renderer_classes = (JSONRenderer, EventStream)

    @contract(body=Chat, answer=OpenApiTypes.STR, content_type=EventStream.media_type, problems=(404, 429))
    def post(self, request: Request) -> HttpResponseBase:
        """The answer as it is made: the gateway's own server-sent events (OpenAI's chunks, then
        ``[DONE]``), with the headers ``x-served-by`` (the instance it began on), ``x-slo-class`` and
        ``x-service-tier``. A key named *playground* is issued for it and revoked at its end.
        """
        given = checked(Chat, request)
        tenant = find_tenant(given["tenant"], self.principal)
        slo_class = class_named(given["slo_class"]) if given["slo_class"] else None
        gateways = gateways_up(given["model"])
        issued = borrow_key(tenant=tenant, slo_class=slo_class, actor=actor_of(request))
        end = _ender(request, issued.row)
        headers = {"authorization": f"Bearer {issued.raw}", HEADER: request_id_of(request)}
        body = {"messages": given["messages"], "max_tokens": given["max_tokens"]}
        try:
            relay = async_to_sync(open_relay)(gateways, body, headers, end)
        except BaseException:
            end()
            raise
        return passed_on(relay)


def passed_on(relay: Relay) -> StreamingHttpResponse:
    answer = StreamingHttpResponse(relay, headers=relay.headers)
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def gateways_up(model: str) -> list[GatewayStatus]:
    """Those that report and serve ``model`` (empty: any), the least busy first.

    Raises :class:`Unavailable` when none is up, ``ValidationError`` for a model that none serves.
    """
    now_s = time.time()
    fresh = [each for each in read_gateways() if now_s - each.reported_at_s < SILENT_S and each.served_model]
    if not fresh:
        raise Unavailable(NO_GATEWAY)
    serving = [each for each in fresh if model in ("", each.served_model)]
    if not serving:
        known = ", ".join(sorted({each.served_model for each in fresh}))
        raise exceptions.ValidationError({"model": f"nobody serves {model!r} now; served are: {known}"})
    serving.sort(key=lambda each: (each.queued, each.open_streams, each.gateway_id))
    chosen = serving[0].served_model
    return [each for each in serving if each.served_model == chosen]


def _ender(request: Request, key: ApiKey) -> Callable[[], None]:
    """Revokes the key, audited as part of this call, whose context is gone by then."""
    origin = Origin(request_id_of(request), address_of(request))
    return partial(_revoke, origin, key, actor_of(request))


def _revoke(origin: Any, key: ApiKey, actor: str) -> None:
    with acting_for(origin):
        revoke_key(key=key, actor=actor, reason="the answer has ended")
