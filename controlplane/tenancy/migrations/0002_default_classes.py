"""The three classes of the fleet by default, with OpenAI's service tiers that ask for them."""

from django.db import migrations

DEFAULTS = (
    # name, rank, TTFT ms, TPOT ms, service_tier
    ("interactive", 0, 500, 50, "priority"),
    ("standard", 1, 2_000, 80, "default"),
    ("batch", 2, 60_000, None, "flex"),
)


def add_classes(apps, schema_editor):
    slo_class = apps.get_model("tenancy", "SLOClass")
    for name, rank, ttft_ms, tpot_ms, tier in DEFAULTS:
        slo_class.objects.get_or_create(
            name=name,
            defaults={
                "rank": rank,
                "ttft_target_ms": ttft_ms,
                "tpot_target_ms": tpot_ms,
                "service_tier": tier,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("tenancy", "0001_initial")]
    operations = [migrations.RunPython(add_classes, migrations.RunPython.noop)]
