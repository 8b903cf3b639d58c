"""Rows for browser tests, through the services: people, tenants, a pool of ready instances."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from controlplane.records.types import FinishedRequest

FINISHED = "r-finished"
"""A request that is over."""


def main(instances: int) -> None:
    from django.utils import timezone

    from controlplane.fleet.models import Instance
    from controlplane.fleet.services import ensure_pool
    from controlplane.records.services import record_requests
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
    record_requests([finished_request(owned.pk if owned else None)])
    create_person(username="otto", role="tenant_owner", tenant=owned, actor="system:seed", password=PASSWORD)
    pool = ensure_pool(name="main", served_model="fake-7b", model_path="none", engine="paced")
    now = timezone.now()
    Instance.objects.bulk_create(
        Instance(instance_id=f"main-{number + 1}", pool=pool, state="ready", changed_at=now)
        for number in range(instances)
    )


def finished_request(tenant_id: int | None) -> FinishedRequest:
    """One that waited, ran on one instance, moved to another and ended."""
    from django.utils import timezone

    from controlplane.records.types import FinishedRequest

    end = timezone.now()
    return FinishedRequest(
        request_id=FINISHED,
        tenant_id=tenant_id,
        key_id=None,
        slo_class_asked="",
        slo_class_served="standard",
        model="fake-7b",
        arrived_at=end - timedelta(seconds=9),
        first_token_at=end - timedelta(seconds=8),
        finished_at=end,
        prompt_tokens=800,
        output_tokens=300,
        instance_ids=("main-1", "main-2"),
        dispatches=1,
        moves=1,
        recoveries=0,
        outcome="stop",
        queued_ms=400.0,
    )


if __name__ == "__main__":
    django.setup()
    main(int(sys.argv[1]))
