"""What callers may send. Every field has a limit; one that is not known is refused by name."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from console.accounts.scopes import MEANINGS
from controlplane.tenancy.models import Membership

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


class Reason(StrictSerializer):
    """Every write may say why; it is kept in the audit list. ``reason`` is the older name of it."""

    change_reason = serializers.CharField(max_length=MAX_REASON, required=False, allow_blank=True)
    reason = serializers.CharField(max_length=MAX_REASON, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        attrs["reason"] = attrs.pop("change_reason", "") or attrs.get("reason", "")
        return attrs


class SignIn(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=1000, trim_whitespace=False)
    code = serializers.CharField(
        max_length=40,
        required=False,
        allow_blank=True,
        help_text="Of the authenticator app, or a recovery code.",
    )


class NewPassword(StrictSerializer):
    old_password = serializers.CharField(max_length=1000, trim_whitespace=False)
    new_password = serializers.CharField(max_length=1000, trim_whitespace=False)


class Code(StrictSerializer):
    code = serializers.CharField(max_length=40)


class MoveRequest(Reason):
    request_id = serializers.CharField(max_length=160)
    source = serializers.CharField(max_length=63)  # type: ignore[assignment]
    destination = serializers.CharField(max_length=63)
    dry_run = serializers.BooleanField(required=False, default=False)


class NewToken(Reason):
    name = serializers.CharField(max_length=80)
    role = serializers.ChoiceField(choices=Membership.Role.choices)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=sorted(MEANINGS)), min_length=1, max_length=len(MEANINGS)
    )
    tenant = serializers.CharField(max_length=63, required=False, allow_null=True, default=None)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class NewPerson(Reason):
    username = serializers.CharField(max_length=150)
    role = serializers.ChoiceField(choices=Membership.Role.choices)
    tenant = serializers.CharField(max_length=63, required=False, allow_null=True, default=None)
    password = serializers.CharField(
        max_length=1000,
        required=False,
        trim_whitespace=False,
        help_text="A random one is made where none is given.",
    )


class PersonChange(Reason):
    role = serializers.ChoiceField(
        choices=["viewer", "operator", "admin"], required=False, allow_null=True, help_text="Null: none."
    )
    active = serializers.BooleanField(required=False)
