"""Rows for browser tests, through the services: people, tenants, a pool of ready instances."""

from __future__ import annotations

import sys

import django


def main(instances: int) -> None:
    from django.utils import timezone

    from controlplane.fleet.models import Instance
    from controlplane.fleet.services import ensure_pool
    from controlplane.tenancy.models import SLOClass
    from controlplane.tenancy.services import create_person, create_tenant
    from tests.browser.stack import PASSWORD
    from tests.console.fake_fleet import TENANTS

    for name, role in (("vera", "viewer"), ("olga", "operator"), ("ada", "admin")):
        create_person(username=name, role=role, actor="system:seed", password=PASSWORD)
    owned = None
    for slug, classes in TENANTS.items():
        allowed = SLOClass.objects.filter(name__in=classes)
        made = create_tenant(
            slug=slug,
            slo_class=SLOClass.objects.get(name=classes[0]),
            allowed_classes=allowed,
            actor="system:seed",
        )
        owned = made if slug == "globex" else owned
    create_person(username="otto", role="tenant_owner", tenant=owned, actor="system:seed", password=PASSWORD)
    pool = ensure_pool(name="main", served_model="fake-7b", model_path="none", engine="paced")
    now = timezone.now()
    Instance.objects.bulk_create(
        Instance(instance_id=f"main-{number + 1}", pool=pool, state="ready", changed_at=now)
        for number in range(instances)
    )


if __name__ == "__main__":
    django.setup()
    main(int(sys.argv[1]))
