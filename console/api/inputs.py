"""What callers may send. Every field has a limit; one that is not known is refused by name."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

MAX_REASON = 500
MAX_ID = 120


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know, so that a misspelt one is not silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {str(name): f"is not a field here; known are: {known}" for name in sorted(unknown)}
            )
        return super().to_internal_value(data)


class SignIn(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=1000, trim_whitespace=False)


class Reason(StrictSerializer):
    reason = serializers.CharField(max_length=MAX_REASON, required=False, allow_blank=True, default="")


class MoveRequest(Reason):
    request_id = serializers.CharField(max_length=80)
    source = serializers.CharField(max_length=63)  # type: ignore[assignment]
    destination = serializers.CharField(max_length=63)


class TenantClass(Reason):
    slo_class = serializers.CharField(max_length=40)
