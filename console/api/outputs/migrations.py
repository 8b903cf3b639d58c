"""Migrations counted: by pair of instances, by rule, by reason."""

from __future__ import annotations

from rest_framework import serializers

from console.api.outputs import Shape, number, text, time, whole


class DowntimesOutput(Shape):
    """Pauses of the newest moves that were done, in milliseconds; null where none was."""

    p50 = number(allow_null=True)
    p99 = number(allow_null=True)
    max = number(allow_null=True)
    values_ms = serializers.ListField(
        child=serializers.FloatField(), help_text="Newest first, 2,000 at most."
    )


class PairOutput(Shape):
    source = text()
    destination = text()
    total = whole()
    done = whole()
    stopped = whole()
    tokens_moved = whole()
    downtime_p50_ms = number(allow_null=True)
    downtime_p99_ms = number(allow_null=True)


class RuleCountOutput(Shape):
    rule = text()
    total = whole()
    done = whole()
    stopped = whole()


class ReasonCountOutput(Shape):
    """Why moves were stopped; numbers and names in reasons are left out, so that like counts with like."""

    reason = text()
    total = whole()


class MigrationSummaryOutput(Shape):
    since = time()
    until = time()
    total = whole()
    done = whole()
    stopped = whole(help_text="Aborted or refused; the others are under way.")
    tokens_moved = whole()
    bytes = whole(help_text="Copied by those that downtimes and bytes are read from.")
    sampled = whole(help_text="Newest done moves that downtimes and bytes are read from, 10,000 at most.")
    downtime_ms = DowntimesOutput()
    pairs = PairOutput(many=True, help_text="Most moves first, 200 at most.")
    rules = RuleCountOutput(many=True)
    reasons = ReasonCountOutput(many=True, help_text="Most first, 50 at most.")
