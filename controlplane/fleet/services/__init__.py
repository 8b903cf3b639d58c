"""Writing what exists: pools, instances, their wishes and their states; by subject, read as one module.

People and the policy change wishes here (a row); agents follow because the
rebalancing loop and the fleet's jobs compare rows with reports and command the
difference, again and again, until they agree.
"""

from controlplane.fleet.services.lifecycle import (
    add_instances,
    agent_config,
    begin_stop,
    finish_stop,
    mark_unhealthy,
    quarantine,
    release_instance,
    reset_instance,
    start_instance,
)
from controlplane.fleet.services.pools import change_pool, create_pool, delete_pool, ensure_pool
from controlplane.fleet.services.reported import delete_history_before, sync_gateways, sync_instances
from controlplane.fleet.services.rollouts import cancel_rolling_restart, start_rolling_restart
from controlplane.fleet.services.rows import SYSTEM, FleetError
from controlplane.fleet.services.sizes import hold_scaling, record_scaling, release_scaling, scale_pool
from controlplane.fleet.services.wishes import (
    drain_instance,
    migrate_all,
    remove_instance,
    restart_instance,
    retire_instance,
    stop_instance,
    undrain_instance,
)

__all__ = [
    "SYSTEM",
    "FleetError",
    "add_instances",
    "agent_config",
    "begin_stop",
    "cancel_rolling_restart",
    "change_pool",
    "create_pool",
    "delete_history_before",
    "delete_pool",
    "drain_instance",
    "ensure_pool",
    "finish_stop",
    "hold_scaling",
    "mark_unhealthy",
    "migrate_all",
    "quarantine",
    "record_scaling",
    "release_instance",
    "release_scaling",
    "remove_instance",
    "reset_instance",
    "restart_instance",
    "retire_instance",
    "scale_pool",
    "start_instance",
    "start_rolling_restart",
    "stop_instance",
    "sync_gateways",
    "sync_instances",
    "undrain_instance",
]
