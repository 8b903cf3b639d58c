"""Classes, tenants and limits as one YAML document: exported, compared with what is there, applied.

What a document does not mention stays as it is. Keys and people are not in it: keys
exist only as hashes, people belong to sign-in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.db import models, transaction

from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import Quota, SLOClass, Tenant
from controlplane.tenancy.services.quotas import LIMITS
from controlplane.tenancy.services.writing import changed, facts

VERSION = 1
MAX_DOCUMENT_BYTES = 2**20
MAX_DEPTH = 10
CLASS_FIELDS = (
    "rank",
    "description",
    "ttft_target_ms",
    "tpot_target_ms",
    "target_load_tokens",
    "service_tier",
    "colour",
)
TENANT_FIELDS = ("name", "description", "weight", "refuse_above_maximum")


@dataclass(frozen=True, slots=True)
class Change:
    """One row that the document makes or changes; only fields that differ."""

    kind: str
    """``class``, ``tenant`` or ``limits``"""
    name: str
    action: str
    """``create`` or ``update``"""
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What applying a document would do now. ``digest`` names exactly that."""

    changes: tuple[Change, ...]
    digest: str


def export_yaml() -> str:
    """All classes and tenants with their limits, in the form that :func:`apply_import` takes."""
    limits = {(row.tenant_id, row.slo_class_id): row for row in Quota.objects.filter(key=None)}
    classes = list(selectors.slo_classes())
    document = {
        "version": VERSION,
        "classes": {
            row.name: {name: getattr(row, name) for name in CLASS_FIELDS}
            | _limits_out(limits.get((None, row.pk)))
            for row in classes
        },
        "tenants": {row.slug: _tenant_out(row, classes, limits) for row in selectors.tenants()},
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def plan_import(text: str) -> ImportPlan:
    """What the document would change. Raises ``ValidationError`` (``document``) naming every fault in it."""
    with transaction.atomic():
        changes = _carry_out(_read(text), actor="system:plan", reason="")
        transaction.set_rollback(True)
    return _plan(changes)


@transaction.atomic
def apply_import(text: str, *, actor: str, reason: str = "", digest: str = "") -> ImportPlan:
    """Apply the document, all of it or nothing; every changed row is audited.

    With ``digest`` only if that would do what :func:`plan_import` showed. Raises
    ``ValidationError``; :class:`TenancyConflictError` when something has changed meanwhile.
    """
    plan = _plan(_carry_out(_read(text), actor=actor, reason=reason))
    if digest and digest != plan.digest:
        raise services.TenancyConflictError(
            "classes or tenants were changed since this was compared: look at the differences again"
        )
    return plan


# ------------------------------------------------------------------ reading the text


class _Loader(yaml.SafeLoader):
    """Plain data alone: no aliases (a small text could become a huge document), no key twice."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken; write the value out")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))} stands there twice")
        return super().construct_mapping(node, deep)


def _read(text: str) -> dict[str, Any]:
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        raise ValidationError({"document": f"is larger than {MAX_DOCUMENT_BYTES} bytes"})
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValidationError({"document": f"is not YAML: {' '.join(str(error).split())[:300]}"}) from None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValidationError({"document": f"must be a mapping with 'version: {VERSION}'"})
    return document


# ------------------------------------------------------------------ carrying it out


def _carry_out(document: dict[str, Any], *, actor: str, reason: str) -> list[Change]:
    work = _Work(actor, reason)
    for unknown in set(document) - {"version", "classes", "tenants"}:
        work.faults.append(f"{unknown}: unknown; known are classes, tenants")
    for name, said in work.parts("classes", document.get("classes") or {}):
        work.attempt(f"classes.{name}", partial(work.put_class, name, said))
    for slug, said in work.parts("tenants", document.get("tenants") or {}):
        work.attempt(f"tenants.{slug}", partial(work.put_tenant, slug, said))
    if work.faults:
        raise ValidationError({"document": work.faults})
    return work.changes


class _Work:
    """One pass through a document."""

    def __init__(self, actor: str, reason: str) -> None:
        self._said: dict[str, Any] = {"actor": actor, "reason": reason}
        self.changes: list[Change] = []
        self.faults: list[str] = []

    def parts(self, where: str, given: Any) -> list[tuple[str, dict[str, Any]]]:
        if not isinstance(given, dict):
            self.faults.append(f"{where}: must be a mapping from names")
            return []
        found = []
        for name, said in given.items():
            if isinstance(name, str) and isinstance(said, dict):
                found.append((name, said))
            else:
                self.faults.append(f"{where}.{name}: must be a mapping of fields")
        return found

    def attempt(self, where: str, do: Callable[[], None]) -> None:
        """One row; a fault in it does not hide those of the next."""
        try:
            with transaction.atomic():
                do()
        except ValidationError as error:
            for field, messages in error.message_dict.items():
                self.faults += [f"{where}.{field}: {message}" for message in messages]

    def put_class(self, name: str, said: dict[str, Any]) -> None:
        _only(said, *CLASS_FIELDS, "limits")
        fields = {field: said[field] for field in CLASS_FIELDS if field in said}
        row = SLOClass.objects.filter(name=name).first()
        before = facts(row) if row else {}
        if row is None:
            fields.setdefault("rank", None)
            row = services.create_class(name=name, **fields, **self._said)
        else:
            row = services.update_class(slo_class=row, **fields, **self._said)
        self._note("class", name, before, row)
        self._put_limits(said.get("limits"), f"class {name}", slo_class=row)

    def put_tenant(self, slug: str, said: dict[str, Any]) -> None:
        _only(said, *TENANT_FIELDS, "class", "allowed", "maximum", "active", "limits", "limits_in_class")
        fields = {field: said[field] for field in TENANT_FIELDS if field in said}
        if "class" in said:
            fields["slo_class"] = _class(said["class"], "class")
        if "allowed" in said:
            fields["allowed_classes"] = [
                _class(each, "allowed") for each in _list(said["allowed"], "allowed")
            ]
        if "maximum" in said:
            fields["maximum_class"] = _class(said["maximum"], "maximum") if said["maximum"] else None
        row = Tenant.objects.filter(slug=slug).first()
        before = facts(row) if row else {}
        if row is None:
            row = services.create_tenant(slug=slug, **fields, **self._said)
        else:
            row = services.update_tenant(tenant=row, **fields, **self._said)
        self._set_active(row, said.get("active"))
        self._note("tenant", slug, before, row)
        self._put_limits(said.get("limits"), f"tenant {slug}", tenant=row)
        in_class = said.get("limits_in_class") or {}
        for name, limits in _mapping(in_class, "limits_in_class").items():
            slo_class = _class(name, "limits_in_class")
            self._put_limits(limits, f"tenant {slug} in class {name}", tenant=row, slo_class=slo_class)

    def _set_active(self, row: Tenant, active: Any) -> None:
        if active is None or active == row.active:
            return
        if not isinstance(active, bool):
            raise ValidationError({"active": "must be true or false"})
        (services.reopen_tenant if active else services.close_tenant)(tenant=row, **self._said)

    def _put_limits(self, limits: Any, name: str, **subject: Any) -> None:
        if limits is None:
            return
        given = _mapping(limits, "limits")
        _only(given, *LIMITS)
        wanted = {"tenant": None, "key": None, "slo_class": None} | subject
        row = Quota.objects.filter(**wanted).first()
        before = facts(row) if row else {}
        if given:
            self._note("limits", name, before, services.set_quota(**subject, **given, **self._said))

    def _note(self, kind: str, name: str, before: Mapping[str, Any], row: models.Model) -> None:
        old, new = changed(before, facts(row))
        if new:
            self.changes.append(
                Change(kind, name, "update" if before else "create", old if before else {}, new)
            )


# ------------------------------------------------------------------ small parts


def _plan(changes: list[Change]) -> ImportPlan:
    said = json.dumps([asdict(each) for each in changes], sort_keys=True, default=str)
    return ImportPlan(tuple(changes), hashlib.sha256(said.encode()).hexdigest())


def _tenant_out(
    row: Tenant, classes: Sequence[SLOClass], limits: Mapping[tuple[int | None, int | None], Quota]
) -> dict[str, Any]:
    out: dict[str, Any] = {name: getattr(row, name) for name in TENANT_FIELDS}
    out |= {
        "class": row.slo_class.name,
        "allowed": sorted(each.name for each in row.allowed_classes.all()),
        "maximum": row.maximum_class.name if row.maximum_class else None,
        "active": row.active,
    } | _limits_out(limits.get((row.pk, None)))
    mine = {each.name: limits.get((row.pk, each.pk)) for each in classes}
    in_class = {name: _limits_out(quota)["limits"] for name, quota in mine.items() if quota is not None}
    return out | ({"limits_in_class": in_class} if in_class else {})


def _limits_out(row: Quota | None) -> dict[str, Any]:
    return {"limits": {name: getattr(row, name) for name in LIMITS}} if row is not None else {}


def _only(said: Mapping[str, Any], *known: str) -> None:
    for name in said:
        if name not in known:
            raise ValidationError({str(name): f"unknown; known are {', '.join(known)}"})


def _class(name: Any, field: str) -> SLOClass:
    row = SLOClass.objects.filter(name=name).first() if isinstance(name, str) else None
    if row is None:
        known = ", ".join(SLOClass.objects.values_list("name", flat=True))
        raise ValidationError({field: f"there is no class {name!r}; there are: {known}"})
    return row


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValidationError({field: "must be a list of classes"})
    return value


def _mapping(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValidationError({field: "must be a mapping"})
    return value
