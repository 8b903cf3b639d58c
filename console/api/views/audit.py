"""The audit list: read only; nothing can change or delete an entry."""

from __future__ import annotations

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.outputs import AuditOutput
from console.api.pagination import page
from console.api.views.console_view import ConsoleView
from controlplane.records.selectors import audit_entries


class Audit(ConsoleView):
    """``GET ?q=&object_type=&object_id=&actor=``, newest first."""

    def get(self, request: Request) -> Response:
        asked = request.query_params
        rows = audit_entries(object_type=asked.get("object_type", ""), object_id=asked.get("object_id", ""))
        if actor := asked.get("actor", ""):
            rows = rows.filter(actor=actor)
        for word in asked.get("q", "").split()[:5]:
            rows = rows.filter(
                Q(actor__icontains=word)
                | Q(action__icontains=word)
                | Q(object_id__icontains=word)
                | Q(reason__icontains=word)
            )
        return page(rows, AuditOutput, view=self, ordering="-id")
