"""Signing in and out, and who one is."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from rest_framework import exceptions
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from console.api.authentication import SessionAuthentication
from console.api.inputs import SignIn
from console.api.views.console_view import ConsoleView, checked
from console.roles import may_act
from controlplane.tenancy.selectors import role_of


class SignInThrottle(SimpleRateThrottle):
    """Ten attempts a minute from one address for one name."""

    rate = "10/min"
    scope = "sign_in"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        if request.method != "POST":
            return None
        name = str(request.data.get("username", ""))[:150] if isinstance(request.data, dict) else ""
        return self.cache_format % {"scope": self.scope, "ident": f"{self.get_ident(request)}:{name.lower()}"}


@method_decorator(ensure_csrf_cookie, name="dispatch")
class Session(ConsoleView):
    """``POST`` signs in (with a CSRF token, as every write), ``DELETE`` signs out."""

    throttle_classes = (SignInThrottle,)

    def get_permissions(self) -> list[BasePermission]:
        return [AllowAny()]

    def post(self, request: Request) -> Response:
        SessionAuthentication().enforce_csrf(request)
        given = checked(SignIn, request)
        person = authenticate(request, username=given["username"], password=given["password"])
        if person is None:
            raise exceptions.ValidationError({"password": "this user and password do not belong together"})
        login(request, person)
        return Response(describe(person))

    def delete(self, request: Request) -> Response:
        logout(request)
        return Response(status=204)


class Me(ConsoleView):
    """Who is signed in, and what the page may offer."""

    def get_permissions(self) -> list[BasePermission]:
        return [IsAuthenticated()]

    def get(self, request: Request) -> Response:
        return Response(describe(request.user))


def describe(person: Any) -> dict[str, Any]:
    return {"username": person.get_username(), "role": role_of(person), "may_act": may_act(person)}
