"""What all endpoints share."""

from __future__ import annotations

from typing import Any, TypeVar

from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from console.api.authentication import SessionAuthentication
from console.api.permissions import MayAct, MayLook
from console.api.request_id import HEADER, request_id_of

READING = frozenset({"GET", "HEAD", "OPTIONS"})
Input = TypeVar("Input", bound=serializers.Serializer[Any])


class ConsoleView(APIView):
    """Signed in; any role may read, operators and admins may write."""

    authentication_classes = (SessionAuthentication,)

    def get_permissions(self) -> list[BasePermission]:
        return [MayLook()] if self.request.method in READING else [MayAct()]

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers[HEADER] = request_id_of(request)
        return response


def checked(serializer: type[Input], request: Request) -> dict[str, Any]:
    """The body, checked field by field. Raises ``ValidationError``."""
    found = serializer(data=request.data)
    found.is_valid(raise_exception=True)
    return dict(found.validated_data)


def actor_of(request: Request) -> str:
    """The name under which an act is audited."""
    return str(request.user.get_username())
