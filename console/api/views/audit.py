"""The audit list: read only; nothing can change or delete an entry."""

from __future__ import annotations

from typing import Any

import django_filters
from rest_framework.request import Request

from console.api.filters import Moment, Word
from console.api.listing import Listing
from console.api.outputs.accounts import AuditOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView
from controlplane.records.selectors import audit_entries


class AuditFilters(django_filters.FilterSet):
    actor = Word()
    action = Word()
    object_type = Word()
    object_id = Word()
    request_id = Word()
    since = Moment(field_name="at", lookup_expr="gte", help_text="From then on.")
    until = Moment(field_name="at", lookup_expr="lt", help_text="Before then.")


class Audit(ConsoleView):
    """Who did what to which object, when and why, newest first."""

    listing = Listing(
        output=AuditOutput,
        ordering={"id": "id", "at": "at"},
        default="-id",
        filters=AuditFilters,
        search=("actor", "action", "object_id", "reason"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(audit_entries())
