"""A tenant's API keys: issued, changed, rotated with an overlap, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django_filters
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Flag
from console.api.inputs import Reason
from console.api.inputs.tenants import KeyChange, NewKey, Rotation
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.tenants import KeyIssued, KeyOutput, key_state
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.api.views.tenants.lookups import find_key, find_tenant, with_classes
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import ApiKey
from controlplane.tenancy.services.api_keys import IssuedKey, new_key


class KeyFilters(django_filters.FilterSet):
    revoked = Flag(method="by_revoked")

    def by_revoked(self, rows: Any, name: str, value: bool | None) -> Any:
        return rows if value is None else rows.filter(revoked_at__isnull=not value)


class Keys(ConsoleView):
    """A tenant's keys, newest first."""

    secret_fields = frozenset({"key"})
    listing = Listing(
        output=KeyOutput,
        ordering={"id": "id", "created_at": "created_at", "name": "name"},
        default="-id",
        filters=KeyFilters,
        search=("name", "prefix", "created_by"),
    )

    @contract(lists=True)
    def get(self, request: Request, slug: str) -> Any:
        return self.list(selectors.api_keys(find_tenant(slug, self.principal)))

    @contract(body=NewKey, answer=KeyIssued, status=201)
    def post(self, request: Request, slug: str) -> Response:
        """A new key; it is in the answer, this once."""
        given = checked(NewKey, request)
        tenant = find_tenant(slug, self.principal)
        issued = new_key(
            tenant=tenant, **with_classes(given), actor=actor_of(request), reason=given["reason"]
        )
        return shown_once(issued)


class Key(ConsoleView):
    """One key, without the key."""

    @contract(answer=KeyOutput)
    def get(self, request: Request, slug: str, key_id: int) -> Response:
        return answered(find_key(find_tenant(slug, self.principal), key_id))

    @contract(body=KeyChange, answer=KeyOutput, if_match=True)
    def patch(self, request: Request, slug: str, key_id: int) -> Response:
        """Change name, scopes, networks, classes or expiry."""
        given = checked(KeyChange, request)
        tenant = find_tenant(slug, self.principal)
        fields = with_classes(given)
        with unchanged(request, ApiKey.objects.filter(tenant=tenant), key_state, pk=key_id) as key:
            services.change_key(key=key, **fields, actor=actor_of(request), reason=given["reason"])
        return answered(find_key(tenant, key_id))


class KeyRotate(ConsoleView):
    """A new key with the same rights; the old one works on for a while."""

    secret_fields = frozenset({"key"})

    @contract(body=Rotation, answer=KeyIssued, status=201)
    def post(self, request: Request, slug: str, key_id: int) -> Response:
        given = checked(Rotation, request)
        key = find_key(find_tenant(slug, self.principal), key_id)
        overlap = timedelta(hours=given["overlap_hours"])
        return shown_once(
            services.rotate_key(key=key, overlap=overlap, actor=actor_of(request), reason=given["reason"])
        )


class KeyRevoke(ConsoleView):
    """Refuse a key from now on; gateways follow within 5 s."""

    @contract(body=Reason, answer=KeyOutput)
    def post(self, request: Request, slug: str, key_id: int) -> Response:
        given = checked(Reason, request)
        key = find_key(find_tenant(slug, self.principal), key_id)
        services.revoke_key(key=key, actor=actor_of(request), reason=given["reason"])
        return answered(key)


def answered(key: ApiKey) -> Response:
    return with_etag(Response(KeyOutput(key).data), key_state(key))


def shown_once(issued: IssuedKey) -> Response:
    return Response(KeyIssued(issued.row, context={"raw": issued.raw}).data, status=201)
