"""Audit, people, machine tokens, and oneself."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from rest_framework import serializers

from console.accounts.models import MachineToken
from console.api.outputs import Json, Shape, text, time, words, yes
from controlplane.records.models import AuditEntry


class AuditOutput(serializers.ModelSerializer[AuditEntry]):
    before = serializers.DictField()
    after = serializers.DictField()

    class Meta:
        model = AuditEntry
        fields = ("id", "at", "actor", "action", "object_type", "object_id", "before", "after", "reason",
                  "request_id", "address")  # fmt: skip


class MeOutput(Shape):
    """Who is signed in, and what the page may offer."""

    username = text()
    role = text(allow_null=True)
    tenants = words(help_text="A tenant owner's own tenants.")
    may_act = yes()
    may_administer = yes()
    machine = yes()


class SignedIn(Shape):
    """Either who is signed in now, or that a code of the second factor is still needed."""

    second_factor = yes(help_text="True: nobody is signed in yet; send the same again with a code.")
    username = text(allow_null=True)
    role = text(allow_null=True)
    tenants = words()
    may_act = yes()
    may_administer = yes()


class ProviderOutput(Shape):
    id = text()
    name = text()
    login_url = text()


class SignInOptions(Shape):
    password = yes()
    oidc = ProviderOutput(many=True)


class TotpOutput(Shape):
    active = yes()
    recovery_codes_left = serializers.IntegerField()


class TotpBegun(Shape):
    secret = text(help_text="Base32, for typing in.")
    uri = text(help_text="otpauth://, for a QR code.")
    qr_svg = text()


class RecoveryCodes(Shape):
    recovery_codes = words(help_text="Shown once; each works once.")


class PersonOutput(Shape):
    username = text()
    role = text(allow_null=True, help_text="Across the fleet; null: none.")
    owns = words(help_text="Slugs of the tenants that this person owns.")
    active = yes()
    second_factor = yes()
    last_login = time(allow_null=True)
    created_at = time()

    def shape(self, item: User) -> Json:
        memberships: Any = item.memberships.all()
        fleet = [each.role for each in memberships if each.tenant is None]
        return {
            "username": item.username,
            "role": "admin" if item.is_superuser else next(iter(fleet), None),
            "owns": sorted(each.tenant.slug for each in memberships if each.tenant is not None),
            "active": item.is_active,
            "second_factor": item.pk in self.context.get("second_factor", ()),
            "last_login": item.last_login,
            "created_at": item.date_joined,
        }


class PersonCreated(PersonOutput):
    password = text(allow_null=True, help_text="Shown once.")

    def shape(self, item: User) -> Json:
        return {**super().shape(item), "password": self.context.get("password")}


class TokenOutput(serializers.ModelSerializer[MachineToken]):
    tenant = serializers.CharField(source="tenant.slug", default=None, allow_null=True)
    issued_by = serializers.CharField(source="issued_by.username", default=None, allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = MachineToken
        fields = ("id", "name", "prefix", "role", "tenant", "scopes", "issued_by", "created_at", "expires_at",
                  "revoked_at", "last_used_at")  # fmt: skip


class TokenIssued(TokenOutput):
    token = serializers.SerializerMethodField(help_text="Shown once.")

    class Meta(TokenOutput.Meta):
        fields = (*TokenOutput.Meta.fields, "token")  # type: ignore[assignment]

    def get_token(self, row: MachineToken) -> str | None:
        token: str | None = self.context.get("token")
        return token
