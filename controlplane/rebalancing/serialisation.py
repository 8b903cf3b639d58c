"""Snapshots and decisions as JSON data and back, so that a recorded round can be decided again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from controlplane.scheduling.decisions import Decision
from controlplane.scheduling.snapshot import ClusterSnapshot

DECISIONS: Mapping[str, type[Decision]] = {cls.__name__: cls for cls in get_args(Decision)}


class FastEncoder(json.JSONEncoder):
    """For ``JSONField``: takes dataclasses and structs as they are, an order of magnitude faster."""

    def encode(self, o: Any) -> str:
        return msgspec.json.encode(o).decode()


def snapshot_from_data(data: Mapping[str, Any]) -> ClusterSnapshot:
    """Raises ``msgspec.ValidationError`` naming the field that does not fit."""
    return msgspec.convert(data, ClusterSnapshot)


def decisions_to_data(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    return [{"type": type(each).__name__, **msgspec.to_builtins(each)} for each in decisions]


def decisions_from_data(data: Iterable[Mapping[str, Any]]) -> tuple[Decision, ...]:
    """Raises ``KeyError`` for an unknown type, ``msgspec.ValidationError`` for a field that does not fit."""
    return tuple(_decision(each) for each in data)


def _decision(data: Mapping[str, Any]) -> Decision:
    fields = {name: value for name, value in data.items() if name != "type"}
    return msgspec.convert(fields, DECISIONS[data["type"]])
