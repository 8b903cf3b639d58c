"""What exists: pools (a served model each), the instances in them, changes of size, gateway processes."""

from controlplane.fleet.models.gateway import GatewayProcess
from controlplane.fleet.models.instance import Instance, InstanceTransition, TransitionError
from controlplane.fleet.models.pool import Pool
from controlplane.fleet.models.scaling import RollingRestart, ScalingRecord

__all__ = [
    "GatewayProcess",
    "Instance",
    "InstanceTransition",
    "Pool",
    "RollingRestart",
    "ScalingRecord",
    "TransitionError",
]
