"""What may be said of rules, alerts, silences and webhooks."""

from __future__ import annotations

from rest_framework import serializers

from console.api.inputs import Reason
from controlplane.alerts.models import AlertRule, Webhook
from controlplane.alerts.rules import KINDS


class RuleChange(Reason):
    parameters = serializers.DictField(child=serializers.FloatField(), required=False)
    severity = serializers.ChoiceField(choices=AlertRule.Severity.choices, required=False)
    for_s = serializers.IntegerField(min_value=0, max_value=86_400, required=False)
    enabled = serializers.BooleanField(required=False)
    description = serializers.CharField(max_length=500, required=False, allow_blank=True)
    runbook_url = serializers.CharField(max_length=300, required=False, allow_blank=True)


class NewRule(RuleChange):
    name = serializers.CharField(max_length=80)
    kind = serializers.ChoiceField(choices=list(KINDS))


class NewSilence(Reason):
    rule = serializers.CharField(max_length=80, required=False, allow_null=True, default=None)
    subject = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    ends_at = serializers.DateTimeField()


class SilenceAlert(Reason):
    ends_at = serializers.DateTimeField()


class WebhookChange(Reason):
    name = serializers.CharField(max_length=80, required=False)
    url = serializers.CharField(max_length=500, required=False)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=list(Webhook.EVENTS)),
        min_length=1,
        max_length=10,
        required=False,
    )
    least_severity = serializers.ChoiceField(choices=AlertRule.Severity.choices, required=False)
    enabled = serializers.BooleanField(required=False)


class NewWebhook(WebhookChange):
    name = serializers.CharField(max_length=80)
    url = serializers.CharField(max_length=500)
