"""Policy versions of a pool: drafted, judged, previewed on the live fleet, activated, rolled back."""

from __future__ import annotations

from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Flag, WholeNumber, Word
from console.api.inputs.fleet import Activation, OfPool, PolicyConfig
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.policies import (
    DiffOutput,
    PolicyCheckOutput,
    PolicyOutput,
    PreviewOutput,
    YamlOutput,
)
from console.api.outputs.pools import FieldsOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.fleet import selectors as fleet
from controlplane.fleet.models import Pool
from controlplane.rebalancing import selectors, services
from controlplane.rebalancing.explanations import finite
from controlplane.rebalancing.models import PolicyVersion
from controlplane.rebalancing.policy_fields import policy_fields
from controlplane.rebalancing.services.policy_files import read_policy


class PolicyFilters(django_filters.FilterSet):
    pool = Word(field_name="pool__name")
    active = Flag()
    version = WholeNumber()
    created_by = Word()


class Policies(ConsoleView):
    """Versions of all pools, newest first."""

    listing = Listing(
        output=PolicyOutput,
        ordering={"id": "id", "version": "version", "created_at": "created_at"},
        default="-id",
        filters=PolicyFilters,
        search=("pool__name", "comment", "created_by"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.policy_versions())

    @contract(body=PolicyConfig, answer=PolicyOutput, status=201)
    def post(self, request: Request) -> Response:
        """A new version, not active yet."""
        given = checked(PolicyConfig, request)
        row = services.create_policy_version(
            pool=named_pool(given),
            config=config_in(given),
            actor=actor_of(request),
            comment=given["reason"],
        )
        return answered(row, status=201)


class Policy(ConsoleView):
    """One version."""

    @contract(answer=PolicyOutput)
    def get(self, request: Request, policy_id: int) -> Response:
        return answered(find_policy(policy_id))


class PolicyYaml(ConsoleView):
    """One version as YAML."""

    @contract(answer=YamlOutput)
    def get(self, request: Request, policy_id: int) -> Response:
        return Response({"yaml": services.export_policy(find_policy(policy_id))})


class PolicyActivate(ConsoleView):
    """Let the loop decide by this version from its next tick on."""

    @contract(body=Activation, answer=PolicyOutput, if_match=True)
    def post(self, request: Request, policy_id: int) -> Response:
        """If-Match is the version's ETag: what was read is what is activated; ``for_s``: for a time only."""
        given = checked(Activation, request)
        rows = PolicyVersion.objects.all()
        with unchanged(request, rows, _state, pk=policy_id) as row:
            services.activate_policy_version(version=row, actor=actor_of(request), **given)
        return answered(find_policy(policy_id))


class PolicyDiff(ConsoleView):
    """What differs between two versions."""

    @contract(
        answer=DiffOutput, query={"against": "Id of another version; the pool's active one by default."}
    )
    def get(self, request: Request, policy_id: int) -> Response:
        row = find_policy(policy_id)
        raw = request.query_params.get("against", "")
        if raw and (not raw.isascii() or not raw.isdigit() or len(raw) > 15):
            raise exceptions.ValidationError({"against": "must be the id of a version"})
        other = find_policy(int(raw)) if raw else selectors.active_policy(row.pool.name)
        before = other.config if other is not None else {}
        return Response({"changes": services.diff_policies(before, row.config)})


class PolicyRollback(ConsoleView):
    """Activate again what was active before."""

    @contract(body=OfPool, answer=PolicyOutput)
    def post(self, request: Request) -> Response:
        given = checked(OfPool, request)
        row = services.rollback_policy(
            pool=named_pool(given), actor=actor_of(request), reason=given["reason"]
        )
        return answered(find_policy(row.pk))


class PolicyValidate(ConsoleView):
    """Judge a draft: nothing is stored."""

    @contract(body=PolicyConfig, answer=PolicyCheckOutput)
    def post(self, request: Request) -> Response:
        check = services.check_policy(config_in(checked(PolicyConfig, request)))
        return Response(check.to_dict())


class PolicyPreview(ConsoleView):
    """What a draft would decide on the fleet as it is now, beside what the active one decides."""

    @contract(body=PolicyConfig, answer=PreviewOutput)
    def post(self, request: Request) -> Response:
        given = checked(PolicyConfig, request)
        preview = services.preview_policy(pool=named_pool(given), config=config_in(given), now=timezone.now())
        return Response(finite(preview.to_dict()))


class PolicySchema(ConsoleView):
    """The fields of a policy's configuration: kind, range, default, meaning."""

    @contract(answer=FieldsOutput)
    def get(self, request: Request) -> Response:
        return Response({"results": list(policy_fields())})


def named_pool(given: dict[str, Any]) -> Pool:
    """The pool of this name, or the only one. Raises ``ValidationError``."""
    rows = list(fleet.pools().filter(name=given["pool"]) if given.get("pool") else fleet.pools()[:2])
    if len(rows) == 1:
        return rows[0]
    known = ", ".join(fleet.pools().values_list("name", flat=True)[:50]) or "none yet"
    raise exceptions.ValidationError({"pool": f"name one of the pools: {known}"})


def config_in(given: dict[str, Any]) -> dict[str, Any]:
    """The draft, from JSON or YAML. Raises ``PolicyError``."""
    config: dict[str, Any] = given["config"] if "config" in given else read_policy(given["yaml"])
    return config


def find_policy(policy_id: int) -> PolicyVersion:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.policy_versions(), pk=policy_id)


def answered(row: PolicyVersion, status: int = 200) -> Response:
    return with_etag(Response(PolicyOutput(row).data, status=status), _state(row))


def _state(row: PolicyVersion) -> dict[str, Any]:
    return {"id": row.pk, "version": row.version, "config": row.config, "active": row.active,
            "active_until": row.active_until}  # fmt: skip
