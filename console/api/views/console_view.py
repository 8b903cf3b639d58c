"""What all endpoints share: who calls, limits, retries answered once, problems, the request's id."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar, TypeVar

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from console.accounts.principals import Principal, Role
from console.api import idempotency, listing
from console.api.authentication import SessionAuthentication, TokenAuthentication, principal_of
from console.api.models import StoredAnswer
from console.api.parsing import MAX_BODY_BYTES, PlainJSONParser
from console.api.permissions import ByTable
from console.api.problems import TooLarge
from console.api.request_id import HEADER, request_id_of
from console.api.schema import ConsoleSchema
from controlplane.records.origin import Origin, acting_for

Input = TypeVar("Input", bound=serializers.Serializer[Any])


class ConsoleView(APIView):
    """Open to whom the role matrix names (``console.api.access``)."""

    authentication_classes: Any = (TokenAuthentication, SessionAuthentication)
    permission_classes = (ByTable,)
    parser_classes = (PlainJSONParser,)
    schema = ConsoleSchema()
    listing: ClassVar[listing.Listing | None] = None
    secret_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields of answers that are shown once and never kept."""
    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES
    _claimed: StoredAnswer | None = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            stack.enter_context(acting_for(Origin(request_id_of(request), address_of(request))))
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self._check_limits(request)
        self._claimed = idempotency.claim(request, principal_of(request))

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, idempotency.Replayed):
            return exc.response
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers[HEADER] = request_id_of(request)
        response.headers.setdefault("Cache-Control", "no-store")
        if self._claimed is not None and isinstance(response, Response):
            idempotency.keep(self._claimed, response, secret_fields=self.secret_fields)
        return response

    @property
    def principal(self) -> Principal:
        """The caller, where somebody must be signed in to come here."""
        found = principal_of(self.request)
        if found is None:
            raise exceptions.NotAuthenticated
        return found

    def own(self, rows: QuerySet[Any, Any], column: str) -> QuerySet[Any, Any]:
        """All rows; for a tenant owner only those of their tenant, whose slug stands in ``column``."""
        caller = self.principal
        if caller.role != Role.TENANT_OWNER:
            return rows
        return rows.filter(**{f"{column}__in": caller.tenants})

    def list(self, rows: QuerySet[Any, Any], **context: Any) -> Response | HttpResponse:
        """One page of ``rows`` as this view's listing says."""
        assert self.listing is not None
        return listing.list_rows(self.listing, rows, self, context)

    def _check_limits(self, request: Request) -> None:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not str(length).isdigit() or int(length) > self.max_body_bytes:
            raise TooLarge(f"A body may have {self.max_body_bytes} bytes.")
        for name, value in request.query_params.items():
            if "\x00" in value or "\x00" in name or len(value) > 2_000:
                raise exceptions.ValidationError(
                    {name[:60].replace("\x00", ""): "is too long or holds a NUL"}
                )


def checked(serializer: type[Input], request: Request) -> dict[str, Any]:
    """The body, checked field by field. Raises ``ValidationError``."""
    found = serializer(data=request.data)
    found.is_valid(raise_exception=True)
    return dict(found.validated_data)


def actor_of(request: Request) -> str:
    """The name under which an act is audited."""
    return str(request.user.get_username())


def address_of(request: Any) -> str | None:
    """Where the call came from: the peer, as the web server (told which proxies to trust) reports it."""
    return request.META.get("REMOTE_ADDR") or None
