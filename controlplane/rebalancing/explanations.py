"""Why a recorded round decided what it did: its own snapshot, through the core's explanations."""

from __future__ import annotations

import math
from typing import Any

from controlplane.rebalancing.models import RebalanceRound
from controlplane.rebalancing.serialisation import decisions_from_data, snapshot_from_data
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.explain import explain


def explain_round(row: RebalanceRound, place: int) -> dict[str, Any] | None:
    """The explanation of the round's decision number ``place``; ``None`` where it has no such one."""
    if not 0 <= place < len(row.decisions):
        return None
    decision = decisions_from_data([row.decisions[place]])[0]
    config = SchedulingConfig.from_dict(row.config)
    explanation = explain(snapshot_from_data(row.snapshot), decision, config)
    return {"decision": row.decisions[place], **finite(explanation.to_dict())}


def finite(value: Any) -> Any:
    """JSON knows no infinity: such a number is shown as absent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value
