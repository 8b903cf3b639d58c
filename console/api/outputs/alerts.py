"""Rules, alerts, silences, webhooks and their deliveries."""

from __future__ import annotations

from rest_framework import serializers

from console.api.outputs import Shape, data, number, text
from controlplane.alerts.models import Alert, AlertRule, Delivery, Silence, Webhook


class RuleOutput(serializers.ModelSerializer[AlertRule]):
    parameters = serializers.DictField(child=serializers.FloatField())

    class Meta:
        model = AlertRule
        fields = ("name", "kind", "parameters", "severity", "for_s", "enabled", "description", "runbook_url")


class KindParameter(Shape):
    name = text()
    default = number()
    low = number()
    high = number()
    meaning = text()


class KindOutput(Shape):
    """A kind of rule and what it can be set to."""

    kind = text()
    meaning = text()
    parameters = KindParameter(many=True)


class KindsOutput(Shape):
    results = KindOutput(many=True)


class AlertOutput(serializers.ModelSerializer[Alert]):
    rule = serializers.CharField(source="rule.name")
    kind = serializers.CharField(source="rule.kind")
    runbook_url = serializers.CharField(source="rule.runbook_url")
    silenced = serializers.SerializerMethodField()

    class Meta:
        model = Alert
        fields = ("id", "rule", "kind", "subject", "severity", "state", "value", "summary", "started_at",
                  "fired_at", "resolved_at", "seen_at", "acknowledged_by", "acknowledged_at", "silenced",
                  "runbook_url")  # fmt: skip

    def get_silenced(self, row: Alert) -> bool:
        return row.pk in self.context.get("silenced", ())


class SilenceOutput(serializers.ModelSerializer[Silence]):
    rule = serializers.CharField(source="rule.name", default=None, allow_null=True)

    class Meta:
        model = Silence
        fields = ("id", "rule", "subject", "starts_at", "ends_at", "created_by", "reason")


class WebhookOutput(serializers.ModelSerializer[Webhook]):
    events = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = Webhook
        fields = ("id", "name", "url", "events", "least_severity", "enabled", "created_by", "created_at")


class WebhookCreated(WebhookOutput):
    secret = serializers.SerializerMethodField(help_text="Of the signatures; shown once.")

    class Meta(WebhookOutput.Meta):
        fields = (*WebhookOutput.Meta.fields, "secret")  # type: ignore[assignment]

    def get_secret(self, row: Webhook) -> str | None:
        secret: str | None = self.context.get("secret")
        return secret


class DeliveryOutput(serializers.ModelSerializer[Delivery]):
    webhook = serializers.CharField(source="webhook.name")
    payload = data()

    class Meta:
        model = Delivery
        fields = ("id", "webhook", "event", "payload", "state", "attempts", "due_at", "status", "problem",
                  "created_at", "finished_at")  # fmt: skip
