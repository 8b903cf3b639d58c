"""The rules that every fleet begins with; people change or disable them."""

from django.db import migrations

RUNBOOK = "/docs/runbooks#"
RULES = [
    ("slo-burn-fast", "slo_burn_rate", {"burn_rate": 14, "short_minutes": 5, "long_minutes": 60}, "critical", 0,
     "An error budget of a month would be gone in two days."),
    ("slo-burn-slow", "slo_burn_rate", {"burn_rate": 3, "short_minutes": 30, "long_minutes": 360}, "warning", 0,
     "An error budget of a month would be gone in ten days."),
    ("instance-stale", "instance_stale", {}, "warning", 10, "An instance runs and does not report."),
    ("instance-unhealthy", "instance_unhealthy", {}, "warning", 0, "An instance failed or is quarantined."),
    ("no-ready-instance", "no_ready_instance", {}, "critical", 30, "A pool has nobody who takes work."),
    ("queue-time", "queue_time", {"seconds": 30}, "warning", 30, "Requests wait long for an instance."),
    ("preemption-storm", "preemption_storm", {"per_minute": 60}, "warning", 60, "A pool pre-empts much."),
    ("fragmentation", "fragmentation", {"share": 0.1}, "info", 60, "Memory is free but scattered."),
    ("loop-not-leading", "loop_not_leading", {"seconds": 10}, "critical", 10, "Nobody rebalances."),
    ("quota-near", "quota_near", {"share": 0.9}, "info", 0, "A limit is nearly used up."),
]


def add(apps, schema_editor):
    rule = apps.get_model("alerts", "AlertRule")
    for name, kind, parameters, severity, for_s, description in RULES:
        rule.objects.get_or_create(
            name=name,
            defaults={"kind": kind, "parameters": parameters, "severity": severity, "for_s": for_s,
                      "description": description, "runbook_url": RUNBOOK + kind.replace("_", "-")},
        )


class Migration(migrations.Migration):
    dependencies = [("alerts", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
