"""What the playground may ask."""

from __future__ import annotations

from rest_framework import serializers

from console.api.inputs import StrictSerializer

MAX_MESSAGES = 100
MAX_CHARACTERS = 32_000
MAX_TOKENS = 4_096


class ChatMessage(StrictSerializer):
    role = serializers.ChoiceField(choices=["system", "user", "assistant"])
    content = serializers.CharField(max_length=MAX_CHARACTERS, trim_whitespace=False, allow_blank=True)


class Chat(StrictSerializer):
    messages = serializers.ListField(child=ChatMessage(), min_length=1, max_length=MAX_MESSAGES)
    tenant = serializers.CharField(max_length=63, help_text="Whose limits and usage it counts to.")
    slo_class = serializers.CharField(
        max_length=40,
        required=False,
        allow_blank=True,
        default="",
        help_text="One that the tenant may have; empty: its own.",
    )
    model = serializers.CharField(
        max_length=200,
        required=False,
        allow_blank=True,
        default="",
        help_text="A served model; empty: whichever the least busy gateway serves.",
    )
    max_tokens = serializers.IntegerField(min_value=1, max_value=MAX_TOKENS, required=False, default=512)
