"""What the API answers, by subject. Times are RFC 3339 in UTC; absent is null, never 0."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

Json = dict[str, Any]


def moment(seconds: float | None) -> str | None:
    """Unix seconds as ``2026-11-21T03:12:06.250Z``."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class Shape(serializers.Serializer[Any]):
    """Declares the fields of a dict that is answered as it is: for the schema, ``fields`` and CSV.

    A subclass may make the dict from a row in ``shape``.
    """

    def shape(self, item: Any) -> Json:
        return dict(item)

    def to_representation(self, item: Any) -> Json:
        made = self.shape(item)
        return {str(name): made.get(str(name)) for name in self.fields}


def text(**given: Any) -> Any:
    return serializers.CharField(**given)


def number(**given: Any) -> Any:
    return serializers.FloatField(**given)


def whole(**given: Any) -> Any:
    return serializers.IntegerField(**given)


def time(**given: Any) -> Any:
    return serializers.DateTimeField(**given)


def yes(**given: Any) -> Any:
    return serializers.BooleanField(**given)


def words(**given: Any) -> Any:
    return serializers.ListField(child=serializers.CharField(), **given)


def data(**given: Any) -> Any:
    return serializers.DictField(**given)
