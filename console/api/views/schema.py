"""The OpenAPI document of this API, as committed."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from console.api.openapi import DOCUMENT
from console.api.schema import contract
from console.api.views.console_view import ConsoleView


class Schema(ConsoleView):
    """This document."""

    @contract(answer=dict, content_type="application/json")
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(DOCUMENT.read_bytes(), content_type="application/json")
