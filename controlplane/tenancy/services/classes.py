"""SLO classes."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import ProtectedError

from controlplane.tenancy.models import SLOClass
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.writing import facts, note, save


@transaction.atomic
def create_class(*, name: str, rank: int, actor: str, reason: str = "", **fields: Any) -> SLOClass:
    """A new class. ``fields``: description, ttft_target_ms, tpot_target_ms, target_load_tokens, service_tier,
    colour. Raises ``ValidationError``.
    """
    row = SLOClass()
    save(row, {"name": name, "rank": rank, **fields}, action="slo_class.create", actor=actor, reason=reason)
    return row


@transaction.atomic
def update_class(*, slo_class: SLOClass, actor: str, reason: str = "", **fields: Any) -> SLOClass:
    """Change what is given; gateways follow within two seconds. Raises ``ValidationError``."""
    save(slo_class, fields, action="slo_class.update", actor=actor, reason=reason)
    return slo_class


@transaction.atomic
def delete_class(*, slo_class: SLOClass, actor: str, reason: str = "") -> None:
    """Remove a class that nobody has by default or as maximum. Raises :class:`TenancyConflictError`."""
    before = facts(slo_class)
    note(slo_class, action="slo_class.delete", actor=actor, reason=reason, before=before)
    try:
        slo_class.delete()
    except ProtectedError as error:
        owners = ", ".join(sorted(str(each) for each in error.protected_objects)[:5])
        raise TenancyConflictError(
            f"class {slo_class.name!r} is the default or maximum of {owners}: give them another one first"
        ) from None
