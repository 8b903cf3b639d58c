"""Alerts, the rules that raise them, silences, and webhooks."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Flag, Moment, Word
from console.api.inputs import Reason
from console.api.inputs.alerts import (
    NewRule,
    NewSilence,
    NewWebhook,
    RuleChange,
    SilenceAlert,
    WebhookChange,
)
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.alerts import (
    AlertOutput,
    DeliveryOutput,
    KindsOutput,
    RuleOutput,
    SilenceOutput,
    WebhookCreated,
    WebhookOutput,
)
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.alerts import selectors, services
from controlplane.alerts.models import Alert, AlertRule, Delivery, Webhook
from controlplane.alerts.rules import KINDS


class AlertFilters(django_filters.FilterSet):
    state = Choice(choices=Alert.State.choices)
    open = Flag(method="by_open", help_text="Pending or firing, or those that ended.")
    severity = Choice(choices=AlertRule.Severity.choices)
    rule = Word(field_name="rule__name")
    kind = Choice(field_name="rule__kind", choices=[(name, name) for name in KINDS])
    subject = Word()
    acknowledged = Flag(method="by_acknowledged")
    since = Moment(field_name="started_at", lookup_expr="gte")
    until = Moment(field_name="started_at", lookup_expr="lt")

    def by_open(self, rows: Any, name: str, value: bool | None) -> Any:
        is_open = Q(state__in=Alert.OPEN_STATES)
        return rows if value is None else rows.filter(is_open if value else ~is_open)

    def by_acknowledged(self, rows: Any, name: str, value: bool | None) -> Any:
        return rows if value is None else rows.filter(acknowledged_at__isnull=not value)


class Alerts(ConsoleView):
    """Alerts, newest first."""

    listing = Listing(
        output=AlertOutput,
        ordering={"id": "id", "started_at": "started_at", "severity": "severity"},
        default="-id",
        filters=AlertFilters,
        search=("rule__name", "subject", "summary", "acknowledged_by"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.alerts(), silenced=selectors.silenced_ids(timezone.now()))


class AlertDetail(ConsoleView):
    """One alert."""

    @contract(answer=AlertOutput)
    def get(self, request: Request, alert_id: int) -> Response:
        return _shown(find_alert(alert_id))


class AlertAcknowledge(ConsoleView):
    """Say that somebody cares."""

    @contract(body=Reason, answer=AlertOutput)
    def post(self, request: Request, alert_id: int) -> Response:
        given = checked(Reason, request)
        alert = find_alert(alert_id)
        return _shown(services.acknowledge(alert=alert, actor=actor_of(request), reason=given["reason"]))


class AlertSilence(ConsoleView):
    """Tell nobody of this alert's rule and subject until then. Needs a reason."""

    @contract(body=SilenceAlert, answer=SilenceOutput, status=201)
    def post(self, request: Request, alert_id: int) -> Response:
        given = checked(SilenceAlert, request)
        alert = find_alert(alert_id)
        row = services.add_silence(rule=alert.rule, subject=alert.subject, **given, actor=actor_of(request))
        return Response(SilenceOutput(row).data, status=201)


class Rules(ConsoleView):
    """Alert rules by name."""

    listing = Listing(
        output=RuleOutput,
        ordering={"name": "name", "kind": "kind"},
        default="name",
        search=("name", "kind", "description"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.rules())

    @contract(body=NewRule, answer=RuleOutput, status=201)
    def post(self, request: Request) -> Response:
        """A new rule."""
        given = checked(NewRule, request)
        return _rule(services.create_rule(**given, actor=actor_of(request)), status=201)


class Rule(ConsoleView):
    """One alert rule."""

    @contract(answer=RuleOutput)
    def get(self, request: Request, name: str) -> Response:
        return _rule(get_object_or_404(selectors.rules(), name=name))

    @contract(body=RuleChange, answer=RuleOutput, if_match=True)
    def patch(self, request: Request, name: str) -> Response:
        """Change what is given; parameters are replaced as a whole."""
        given = checked(RuleChange, request)
        with unchanged(request, AlertRule.objects.all(), _rule_state, name=name) as rule:
            rule = services.change_rule(rule=rule, **given, actor=actor_of(request))
        return _rule(rule)

    @contract(body=Reason, status=204)
    def delete(self, request: Request, name: str) -> Response:
        """Forget the rule and its alerts; to keep them, disable it."""
        given = checked(Reason, request)
        rule = get_object_or_404(selectors.rules(), name=name)
        services.delete_rule(rule=rule, actor=actor_of(request), reason=given["reason"])
        return Response(status=204)


class RuleKinds(ConsoleView):
    """The kinds of rules and what each can be set to."""

    @contract(answer=KindsOutput)
    def get(self, request: Request) -> Response:
        found = [
            {
                "kind": name,
                "meaning": kind.meaning,
                "parameters": [
                    {
                        "name": each,
                        "default": it.default,
                        "low": it.low,
                        "high": it.high,
                        "meaning": it.meaning,
                    }
                    for each, it in kind.parameters.items()
                ],
            }
            for name, kind in KINDS.items()
        ]
        return Response({"results": found})


class SilenceFilters(django_filters.FilterSet):
    rule = Word(field_name="rule__name")
    in_force = Flag(method="by_force")

    def by_force(self, rows: Any, name: str, value: bool | None) -> Any:
        inside = Q(starts_at__lte=timezone.now(), ends_at__gt=timezone.now())
        return rows if value is None else rows.filter(inside if value else ~inside)


class Silences(ConsoleView):
    """Silences, newest first."""

    listing = Listing(
        output=SilenceOutput,
        ordering={"id": "id", "ends_at": "ends_at"},
        default="-id",
        filters=SilenceFilters,
        search=("rule__name", "subject", "reason", "created_by"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.silences())

    @contract(body=NewSilence, answer=SilenceOutput, status=201)
    def post(self, request: Request) -> Response:
        """Tell nobody of a rule, a subject, or both, until then. Needs a reason."""
        given = checked(NewSilence, request)
        name = given.pop("rule")
        rule = selectors.rules().filter(name=name).first() if name else None
        if name and rule is None:
            raise exceptions.ValidationError({"rule": f"there is no rule {name!r}"})
        row = services.add_silence(rule=rule, **given, actor=actor_of(request))
        return Response(SilenceOutput(row).data, status=201)


class SilenceEnd(ConsoleView):
    """Tell again."""

    @contract(body=Reason, answer=SilenceOutput)
    def post(self, request: Request, silence_id: int) -> Response:
        given = checked(Reason, request)
        row = get_object_or_404(selectors.silences(), pk=silence_id)
        services.end_silence(silence=row, actor=actor_of(request), reason=given["reason"])
        return Response(SilenceOutput(row).data)


class Webhooks(ConsoleView):
    """Webhooks by name."""

    secret_fields = frozenset({"secret"})
    listing = Listing(
        output=WebhookOutput,
        ordering={"name": "name", "created_at": "created_at"},
        default="name",
        search=("name", "url"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.webhooks())

    @contract(body=NewWebhook, answer=WebhookCreated, status=201)
    def post(self, request: Request) -> Response:
        """A new webhook; the secret of its signatures is in the answer, this once."""
        given = checked(NewWebhook, request)
        hook, secret = services.create_webhook(**given, actor=actor_of(request))
        return Response(WebhookCreated(hook, context={"secret": secret}).data, status=201)


class WebhookDetail(ConsoleView):
    """One webhook."""

    @contract(answer=WebhookOutput)
    def get(self, request: Request, webhook_id: int) -> Response:
        return _hook(find_webhook(webhook_id))

    @contract(body=WebhookChange, answer=WebhookOutput, if_match=True)
    def patch(self, request: Request, webhook_id: int) -> Response:
        """Change what is given."""
        given = checked(WebhookChange, request)
        with unchanged(request, Webhook.objects.all(), _hook_state, pk=webhook_id) as hook:
            hook = services.change_webhook(webhook=hook, **given, actor=actor_of(request))
        return _hook(hook)

    @contract(body=Reason, status=204)
    def delete(self, request: Request, webhook_id: int) -> Response:
        """Forget it with its delivery log."""
        given = checked(Reason, request)
        hook = find_webhook(webhook_id)
        services.delete_webhook(webhook=hook, actor=actor_of(request), reason=given["reason"])
        return Response(status=204)


class WebhookRotate(ConsoleView):
    """A new secret; the old one is not used any more."""

    secret_fields = frozenset({"secret"})

    @contract(body=Reason, answer=WebhookCreated)
    def post(self, request: Request, webhook_id: int) -> Response:
        given = checked(Reason, request)
        hook = find_webhook(webhook_id)
        secret = services.rotate_webhook_secret(webhook=hook, actor=actor_of(request), reason=given["reason"])
        return Response(WebhookCreated(hook, context={"secret": secret}).data)


class WebhookTest(ConsoleView):
    """Send a test event; its delivery says how it went."""

    @contract(body=Reason, answer=DeliveryOutput, status=202)
    def post(self, request: Request, webhook_id: int) -> Response:
        checked(Reason, request)
        row = services.test_webhook(webhook=find_webhook(webhook_id), actor=actor_of(request))
        return Response(DeliveryOutput(row).data, status=202)


class DeliveryFilters(django_filters.FilterSet):
    state = Choice(choices=Delivery.State.choices)
    event = Word()


class WebhookDeliveries(ConsoleView):
    """What was sent to a webhook, or is to be, newest first."""

    listing = Listing(
        output=DeliveryOutput,
        ordering={"id": "id", "created_at": "created_at"},
        default="-id",
        filters=DeliveryFilters,
        search=("event", "problem"),
    )

    @contract(lists=True)
    def get(self, request: Request, webhook_id: int) -> Any:
        return self.list(selectors.deliveries().filter(webhook=find_webhook(webhook_id)))


def find_alert(alert_id: int) -> Alert:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.alerts(), pk=alert_id)


def find_webhook(webhook_id: int) -> Webhook:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.webhooks(), pk=webhook_id)


def _shown(alert: Alert) -> Response:
    silenced = selectors.silenced_ids(timezone.now())
    return Response(AlertOutput(alert, context={"silenced": silenced}).data)


def _rule(rule: AlertRule, status: int = 200) -> Response:
    return with_etag(Response(RuleOutput(rule).data, status=status), _rule_state(rule))


def _rule_state(rule: AlertRule) -> Any:
    return RuleOutput(rule).data


def _hook(hook: Webhook) -> Response:
    return with_etag(Response(WebhookOutput(hook).data), _hook_state(hook))


def _hook_state(hook: Webhook) -> Any:
    return WebhookOutput(hook).data
