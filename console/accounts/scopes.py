"""What a machine token may be good for. A person in a browser has every scope of their role."""

from __future__ import annotations

from typing import Final

READ: Final = "read"
FLEET: Final = "fleet"
POLICIES: Final = "policies"
TENANTS: Final = "tenants"
ALERTS: Final = "alerts"
ACCOUNTS: Final = "accounts"
METRICS: Final = "metrics"

MEANINGS: Final[dict[str, str]] = {
    READ: "read everything that the role may read",
    FLEET: "pools, instances, requests, migrations, autoscaling",
    POLICIES: "policy versions and what-if jobs",
    TENANTS: "tenants, keys, members, classes, quotas, boosts",
    ALERTS: "alert rules, acknowledgements, silences, webhooks",
    ACCOUNTS: "people and machine tokens",
    METRICS: "/metrics and the targets for Prometheus",
}
