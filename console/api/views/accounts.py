"""People and machine tokens."""

from __future__ import annotations

from typing import Any

import django_filters
from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts import second_factor, selectors, services
from console.accounts.models import MachineToken
from console.api.filters import Choice, Flag, Word
from console.api.inputs import NewPerson, NewToken, PersonChange, Reason
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.accounts import PersonCreated, PersonOutput, TokenIssued, TokenOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.tenancy.models import Membership, Tenant
from controlplane.tenancy.selectors import tenants
from controlplane.tenancy.services import create_person


class PeopleFilters(django_filters.FilterSet):
    role = Choice(field_name="memberships__role", choices=Membership.Role.choices, distinct=True)
    active = Flag(field_name="is_active")
    tenant = Word(field_name="memberships__tenant__slug", distinct=True)


class People(ConsoleView):
    """Accounts, by name."""

    secret_fields = frozenset({"password"})
    listing = Listing(
        output=PersonOutput,
        ordering={"username": "username", "created_at": "date_joined"},
        default="username",
        filters=PeopleFilters,
        search=("username",),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.people(), second_factor=second_factor.people_with_one())

    @contract(body=NewPerson, answer=PersonCreated, status=201)
    def post(self, request: Request) -> Response:
        """A new account; its password is in the answer, this once."""
        given = checked(NewPerson, request)
        if "password" in given:
            person = User(username=given["username"])
            services.check_password_rules(given["password"], person, field="password")
        password = create_person(
            username=given["username"],
            role=given["role"],
            actor=actor_of(request),
            password=given.get("password", ""),
            tenant=find_tenant(given["tenant"]),
        )
        person = selectors.people().get(username=given["username"])
        return Response(PersonCreated(person, context={"password": password}).data, status=201)


class Person(ConsoleView):
    """One account."""

    @contract(answer=PersonOutput)
    def get(self, request: Request, username: str) -> Response:
        person = get_object_or_404(selectors.people(), username=username)
        return with_etag(Response(_shape(person)), _state(person))

    @contract(body=PersonChange, answer=PersonOutput, if_match=True)
    def patch(self, request: Request, username: str) -> Response:
        """Change the role across the fleet, close or open the account."""
        given = checked(PersonChange, request)
        with unchanged(request, User.objects.all(), _state, username=username) as person:
            if "role" in given:
                services.set_person_role(
                    person=person, role=given["role"], by=self.principal, reason=given["reason"]
                )
            if "active" in given:
                services.set_person_active(
                    person=person, active=given["active"], by=self.principal, reason=given["reason"]
                )
        person = selectors.people().get(username=username)
        return with_etag(Response(_shape(person)), _state(person))


class TokenFilters(django_filters.FilterSet):
    role = Choice(choices=Membership.Role.choices)
    tenant = Word(field_name="tenant__slug")
    revoked = Flag(field_name="revoked_at", method="by_revoked")

    def by_revoked(self, rows: Any, name: str, value: bool | None) -> Any:
        return rows if value is None else rows.filter(revoked_at__isnull=not value)


class Tokens(ConsoleView):
    """Machine tokens, newest first; a tenant owner sees and makes those of their tenant."""

    secret_fields = frozenset({"token"})
    listing = Listing(
        output=TokenOutput,
        ordering={"id": "id", "created_at": "created_at", "name": "name"},
        default="-id",
        filters=TokenFilters,
        search=("name", "prefix", "issued_by__username"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(self.own(selectors.machine_tokens(), "tenant__slug"))

    @contract(body=NewToken, answer=TokenIssued, status=201)
    def post(self, request: Request) -> Response:
        """A new token; its raw form is in the answer, this once."""
        given = checked(NewToken, request)
        row, raw_token = services.issue_token(
            name=given["name"],
            role=given["role"],
            scopes=given["scopes"],
            by=self.principal,
            issuer=request.user if isinstance(request.user, User) else None,
            tenant=find_tenant(given["tenant"]),
            expires_at=given["expires_at"],
            reason=given["reason"],
        )
        return Response(TokenIssued(row, context={"token": raw_token}).data, status=201)


class TokenRevoke(ConsoleView):
    """Refuse a token from now on."""

    @contract(body=Reason, answer=TokenOutput)
    def post(self, request: Request, token_id: int) -> Response:
        given = checked(Reason, request)
        rows = self.own(selectors.machine_tokens(), "tenant__slug")
        token: MachineToken = get_object_or_404(rows, pk=token_id)
        return Response(
            TokenOutput(services.revoke_token(token=token, by=self.principal, reason=given["reason"])).data
        )


def find_tenant(slug: str | None) -> Tenant | None:
    """Raises ``ValidationError`` for a name that no tenant has."""
    if slug is None:
        return None
    tenant = tenants().filter(slug=slug).first()
    if tenant is None:
        raise exceptions.ValidationError({"tenant": f"there is no tenant {slug!r}"})
    return tenant


def _shape(person: User) -> Any:
    return PersonOutput(person, context={"second_factor": second_factor.people_with_one()}).data


def _state(person: User) -> dict[str, Any]:
    shape = PersonOutput().shape(person)
    return {name: shape[name] for name in ("role", "owns", "active")}
