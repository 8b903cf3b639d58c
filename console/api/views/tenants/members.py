"""Who owns a tenant."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.inputs import Reason
from console.api.inputs.tenants import NewMember
from console.api.listing import Listing
from console.api.outputs.tenants import MemberOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.api.views.tenants.lookups import find_tenant
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import Membership


class Members(ConsoleView):
    """The owners of a tenant."""

    listing = Listing(
        output=MemberOutput,
        ordering={"username": "user__username", "id": "id"},
        default="username",
        search=("user__username",),
    )

    @contract(lists=True)
    def get(self, request: Request, slug: str) -> Any:
        return self.list(selectors.members(find_tenant(slug, self.principal)))

    @contract(body=NewMember, answer=MemberOutput, status=201)
    def post(self, request: Request, slug: str) -> Response:
        """Make an existing account an owner of the tenant."""
        given = checked(NewMember, request)
        tenant = find_tenant(slug, self.principal)
        user = User.objects.filter(username=given["username"]).first()
        if user is None:
            raise exceptions.ValidationError({"username": f"there is no account {given['username']!r}"})
        member = services.add_member(
            user=user,
            role=Membership.Role.TENANT_OWNER,
            tenant=tenant,
            actor=actor_of(request),
            reason=given["reason"],
        )
        return Response(MemberOutput(member).data, status=201)


class Member(ConsoleView):
    """One owner of a tenant."""

    @contract(body=Reason, status=204)
    def delete(self, request: Request, slug: str, username: str) -> Response:
        """Take the ownership away."""
        given = checked(Reason, request)
        rows = selectors.members(find_tenant(slug, self.principal))
        member = get_object_or_404(rows, user__username=username)
        services.remove_member(member=member, actor=actor_of(request), reason=given["reason"])
        return Response(status=204)
