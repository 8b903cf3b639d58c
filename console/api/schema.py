"""How the OpenAPI document is made: each handler says what it takes and answers, the rest is shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

PROBLEM = "application/problem+json"
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
PROBLEMS = {
    400: "The request is not valid; errors[] names the fields.",
    401: "Nobody is signed in, or the token is unknown, expired or revoked.",
    403: "The caller's role or scope does not suffice, or the CSRF token is missing.",
    404: "There is no such thing, or not for this caller.",
    406: "Only JSON is offered.",
    409: "It contradicts the present state; the detail says why.",
    412: "It was changed since the caller read it.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The Idempotency-Key was used for another request.",
    428: "If-Match is missing.",
    429: "Too many attempts; Retry-After says when to go on.",
    503: "Redis or the database does not answer.",
}
Handler = TypeVar("Handler", bound=Callable[..., Any])


class FieldError(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="Path of the field, empty for the whole body.")
    message = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """RFC 9457."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(allow_blank=True)
    request_id = serializers.CharField(allow_blank=True)
    errors = FieldError(many=True, required=False)  # type: ignore[assignment]


@dataclass(frozen=True)
class Contract:
    """What a handler takes and answers, beyond what all share."""

    answer: Any = None
    status: int = 200
    body: Any = None
    lists: bool = False
    problems: tuple[int, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters that are not the listing's, with their meaning."""
    also: Mapping[int, Any] = field(default_factory=dict)
    """Further statuses of success, with what they answer."""
    if_match: bool = False
    content_type: str = "application/json"
    body_type: str = "application/json"


def contract(**given: Any) -> Callable[[Handler], Handler]:
    """Note on a handler what it takes and answers; read by :class:`ConsoleSchema`."""

    def note(handler: Handler) -> Handler:
        handler.contract = Contract(**given)  # type: ignore[attr-defined]
        return handler

    return note


class ConsoleSchema(AutoSchema):
    """Reads :func:`contract` of the handler and the view's listing."""

    def get_operation_id(self) -> str:
        return f"{self._route()}-{self.method.lower()}"

    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/api/v1/").split("/")[0]]

    def get_description(self) -> str:  # type: ignore[override]
        return (getattr(self.view, self.method.lower()).__doc__ or self.view.__class__.__doc__ or "").strip()

    def get_request_serializer(self) -> Any:
        return self._contract.body

    def map_parsers(self) -> list[Any]:
        return [self._contract.body_type]

    def get_override_parameters(self) -> list[Any]:
        contract = self._contract
        found = [_text(name, about) for name, about in contract.query.items()]
        if contract.lists:
            found += self._list_parameters()
        if contract.if_match:
            found.append(_text("If-Match", "The ETag of what was read.", place=OpenApiParameter.HEADER))
        if self.method in WRITING:
            about = "The same key within 24 h: done once, answered alike."
            found.append(_text("Idempotency-Key", about, place=OpenApiParameter.HEADER))
        return found

    def get_response_serializers(self) -> Any:
        contract = self._contract
        answer = contract.answer
        if contract.lists:
            answer = page_of(answer or self._listing.output)
        answers: dict[Any, Any] = {(contract.status, contract.content_type): answer}
        if contract.status == 204 or answer is None:
            answers = {contract.status: OpenApiResponse(description="Done.")}
        elif contract.lists:
            answers[(contract.status, "text/csv")] = OpenApiTypes.STR
        for code, other in contract.also.items():
            answers[(code, contract.content_type)] = other
        for code in self._problem_codes():
            answers[(code, PROBLEM)] = OpenApiResponse(Problem, description=PROBLEMS[code])
        return answers

    def get_filter_backends(self) -> list[Any]:
        return []

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False

    @property
    def _contract(self) -> Contract:
        found: Contract = getattr(getattr(self.view, self.method.lower()), "contract", None) or Contract()
        return found

    @property
    def _listing(self) -> Any:
        view: Any = self.view
        return view.listing

    def _route(self) -> str:
        names: dict[Any, str] = getattr(self.view, "route_names", {})
        return names.get(self.path, "") or _route_name(self.path)

    def _list_parameters(self) -> list[Any]:
        listing = self._listing
        found = [
            OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200, 50 by default."),
            _text("cursor", "From next or previous of an earlier page."),
            _text("ordering", f"One of {', '.join(listing.ordering)}; with - before it backwards."),
            _text("q", f"Words that must all occur in {', '.join(listing.search)}." if listing.search
                  else "Ignored here."),
            _text("fields", "Only these fields, comma-separated."),
            OpenApiParameter("export", OpenApiTypes.STR, enum=["csv", "json"], description="All as a file."),
        ]  # fmt: skip
        filters = listing.filters.base_filters if listing.filters else {}
        found += [_filter_parameter(name, each) for name, each in filters.items()]
        return found + [_text(name, about) for name, about in listing.described.items()]

    def _problem_codes(self) -> list[int]:
        contract, codes = self._contract, {400, 401, 403, 406, 503, *self._contract.problems}
        if "{" in self.path:
            codes.add(404)
        if self.method in WRITING:
            codes |= {409, 413, 422}
        if contract.body is not None:
            codes |= {413, 415}
        if contract.if_match:
            codes |= {412, 428}
        return sorted(codes)


@cache
def page_of(output: Any) -> Any:
    """The shape of one page of a list."""
    name = output.__name__.removesuffix("Output")
    return inline_serializer(
        f"{name}Page",
        {
            "next": serializers.CharField(allow_null=True, help_text="Path relative to /api/v1/."),
            "previous": serializers.CharField(allow_null=True),
            "results": output(many=True),
        },
    )


def _text(name: str, about: str, place: str = OpenApiParameter.QUERY) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, location=place, description=about)  # type: ignore[arg-type]


def _filter_parameter(name: str, filter_: Any) -> OpenApiParameter:
    choices = filter_.extra.get("choices")
    about = filter_.extra.get("help_text", "")
    if choices:
        return OpenApiParameter(
            name, OpenApiTypes.STR, enum=[value for value, _ in choices], description=about
        )
    return OpenApiParameter(name, KINDS.get(type(filter_).__name__, OpenApiTypes.STR), description=about)


KINDS = {"Flag": OpenApiTypes.BOOL, "Moment": OpenApiTypes.DATETIME, "WholeNumber": OpenApiTypes.INT}


def _route_name(path: str) -> str:
    from django.urls import get_resolver

    for route in get_resolver("console.api.urls").url_patterns:
        pattern = str(getattr(route, "pattern", ""))
        if _bare(pattern) == _bare(path.removeprefix("/api/v1/")):
            return str(route.name)  # type: ignore[union-attr]
    return path.strip("/").replace("/", "-")


def _bare(path: str) -> str:
    """The path without the names of its parameters: ``instances/{}/drain``."""
    import re

    return re.sub(r"<[^>]+>|\{[^}]+\}", "{}", path)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Machine tokens in the document."""

    target_class = "console.api.authentication.TokenAuthentication"
    name = "machineToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A machine token, ldm_…"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The browser's session in the document."""

    target_class = "console.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        about = "The console's session cookie; writes need the header X-CSRFToken."
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": about}
