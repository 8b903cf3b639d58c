"""One's own password and second factor."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import update_session_auth_hash
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts import second_factor, services
from console.api.inputs import Code, NewPassword
from console.api.outputs.accounts import RecoveryCodes, TotpBegun, TotpOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, checked

PENDING = "totp_pending"


class MyPassword(ConsoleView):
    """One's own password; other sessions of the account end."""

    @contract(body=NewPassword, status=204)
    def post(self, request: Request) -> Response:
        given = checked(NewPassword, request)
        person: Any = request.user
        services.change_password(person=person, old=given["old_password"], new=given["new_password"])
        update_session_auth_hash(request._request, person)
        return Response(status=204)


class MyTotp(ConsoleView):
    """One's own second factor."""

    secret_fields = frozenset({"secret", "uri", "qr_svg"})

    @contract(answer=TotpOutput)
    def get(self, request: Request) -> Response:
        left = second_factor.recovery_codes_left(request.user)
        return Response({"active": second_factor.is_needed(request.user), "recovery_codes_left": left})

    @contract(answer=TotpBegun)
    def post(self, request: Request) -> Response:
        """Begin: a secret for the authenticator app, in force once a code of it is confirmed."""
        person: Any = request.user
        begun = second_factor.begin(person)
        request.session[PENDING] = begun.pending
        return Response({"secret": begun.secret, "uri": begun.uri, "qr_svg": begun.qr_svg})

    @contract(body=Code, status=204)
    def delete(self, request: Request) -> Response:
        """Remove it; takes a code."""
        person: Any = request.user
        second_factor.remove(person, code=checked(Code, request)["code"])
        return Response(status=204)


class MyTotpConfirm(ConsoleView):
    """Put the second factor that was begun in force."""

    secret_fields = frozenset({"recovery_codes"})

    @contract(body=Code, answer=RecoveryCodes)
    def post(self, request: Request) -> Response:
        given = checked(Code, request)
        person: Any = request.user
        codes = second_factor.confirm(person, pending=request.session.get(PENDING, ""), code=given["code"])
        request.session.pop(PENDING, None)
        return Response({"recovery_codes": codes})


class MyRecoveryCodes(ConsoleView):
    """New recovery codes; the old ones end."""

    secret_fields = frozenset({"recovery_codes"})

    @contract(body=Code, answer=RecoveryCodes)
    def post(self, request: Request) -> Response:
        person: Any = request.user
        codes = second_factor.renew_recovery_codes(person, code=checked(Code, request)["code"])
        return Response({"recovery_codes": codes})
