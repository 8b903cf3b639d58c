"""Tenants and classes as one YAML document: exported, compared, and applied as compared."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.inputs import Reason
from console.api.outputs.policies import YamlOutput
from console.api.outputs.tenants import ImportOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.tenancy.interchange import ImportPlan, apply_import, export_yaml, plan_import


class Document(Reason):
    document = serializers.CharField(max_length=1_000_000, trim_whitespace=False)
    digest = serializers.CharField(
        max_length=100,
        required=False,
        allow_blank=True,
        default="",
        help_text="Of the plan that was looked at.",
    )
    dry_run = serializers.BooleanField(required=False, default=True)


class Configuration(ConsoleView):
    """Tenants, classes and limits; neither keys nor people are in it."""

    @contract(answer=YamlOutput)
    def get(self, request: Request) -> Response:
        return Response({"yaml": export_yaml()})

    @contract(body=Document, answer=ImportOutput)
    def post(self, request: Request) -> Response:
        """What a document changes (``dry_run``, the default), or make it so; with the digest of a plan,
        only if nothing has changed since.
        """
        given = checked(Document, request)
        if given["dry_run"]:
            return Response(_shape(plan_import(given["document"]), applied=False))
        plan = apply_import(
            given["document"], digest=given["digest"], actor=actor_of(request), reason=given["reason"]
        )
        return Response(_shape(plan, applied=True))


def _shape(plan: ImportPlan, *, applied: bool) -> dict[str, Any]:
    changes = [
        {
            "kind": each.kind,
            "name": each.name,
            "action": each.action,
            "before": each.before,
            "after": each.after,
        }
        for each in plan.changes
    ]
    return {"applied": applied, "digest": plan.digest, "changes": changes}
