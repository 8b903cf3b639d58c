"""``python -m tests.faults.seed_database POOL a b c``: a fleet's rows in the database of the environment."""

from __future__ import annotations

import sys

import django
from django.core.management import call_command
from django.utils import timezone


def main(pool_name: str, *names: str) -> None:
    from controlplane.fleet.models import Instance, Pool

    call_command("migrate", verbosity=0)
    pool, _ = Pool.objects.get_or_create(
        name=pool_name, defaults={"served_model": "tiny", "model_path": "paced", "engine": "paced"}
    )
    for name in names:
        Instance.objects.get_or_create(
            instance_id=name, defaults={"pool": pool, "state": "ready", "changed_at": timezone.now()}
        )


if __name__ == "__main__":
    django.setup()
    main(*sys.argv[1:])
