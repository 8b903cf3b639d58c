"""Signing in and out, and who one is."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts import providers, second_factor, throttling
from console.accounts.principals import Principal, Role, principal_of_person
from console.api.access import ACTORS
from console.api.authentication import SessionAuthentication
from console.api.inputs import SignIn
from console.api.outputs.accounts import MeOutput, SignedIn, SignInOptions
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, checked


@method_decorator(ensure_csrf_cookie, name="dispatch")
class Session(ConsoleView):
    """The browser's session."""

    authentication_classes = (SessionAuthentication,)

    @contract(body=SignIn, answer=SignedIn, problems=(429,))
    def post(self, request: Request) -> Response:
        """Sign in (with a CSRF token, as every write); asks for a code where there is a second factor."""
        SessionAuthentication().enforce_csrf(request)
        given = checked(SignIn, request)
        name = given["username"]
        self._refuse_guessing(request, name)
        person = authenticate(request._request, username=name, password=given["password"])
        if person is None:
            self._refuse_guessing(request, name)
            raise exceptions.ValidationError({"password": "this user and password do not belong together"})
        if second_factor.is_needed(person) and not self._code_fits(request, person, given.get("code", "")):
            return Response(_signed_in(None))
        login(request._request, person, backend="django.contrib.auth.backends.ModelBackend")
        return Response(_signed_in(principal_of_person(person)))

    @contract(status=204)
    def delete(self, request: Request) -> Response:
        """Sign out."""
        logout(request._request)
        return Response(status=204)

    def _code_fits(self, request: Request, person: Any, code: str) -> bool:
        """False: none was sent. Raises ``ValidationError`` for a wrong one, which counts as an attempt."""
        if not code:
            return False
        if not second_factor.accepts(person, code):
            throttling.note_failure(request._request, person.get_username())
            raise exceptions.ValidationError({"code": "is not the code of this moment, nor a recovery code"})
        return True

    def _refuse_guessing(self, request: Request, name: str) -> None:
        wait_s = throttling.locked_for_s(request._request, name)
        if wait_s:
            raise exceptions.Throttled(
                wait=wait_s, detail="Too many attempts for this name from this address."
            )


class SessionOptions(ConsoleView):
    """By which ways one may sign in."""

    @contract(answer=SignInOptions)
    def get(self, request: Request) -> Response:
        return Response({"password": True, "oidc": providers.offered()})


class Me(ConsoleView):
    """Who is signed in, and what the page may offer."""

    @contract(answer=MeOutput)
    def get(self, request: Request) -> Response:
        caller = self.principal
        return Response({**describe(caller), "machine": caller.is_machine})


def describe(caller: Principal) -> dict[str, Any]:
    return {
        "username": caller.name,
        "role": caller.role,
        "tenants": sorted(caller.tenants),
        "may_act": caller.role in ACTORS,
        "may_administer": caller.role == Role.ADMIN,
    }


def _signed_in(caller: Principal | None) -> dict[str, Any]:
    if caller is None:
        nobody = {"username": None, "role": None, "tenants": list[str]()}
        return {"second_factor": True, **nobody, "may_act": False, "may_administer": False}
    return {"second_factor": False, **describe(caller)}
