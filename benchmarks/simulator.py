"""How fast does the simulator play a fleet, with the real policy core in the loop?

    python -m benchmarks.simulator [--quick] [--json FILE]

CPU time of one process, no progress bar, no metrics: simulated requests per CPU-second
at 16 and at 64 instances, and the core's plan at 1,024 instances. Every cell is run
several times and the fastest counts, because the machine may be busy; the event log's
hash must be the same each time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.policies import PlanState, plan
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot
from controlplane.simulator import latency
from controlplane.simulator.driver import SimulationConfig, simulate
from controlplane.simulator.workloads import generate

CELLS = (("ShareGPT", 7.5), ("M-M", 7.6), ("S-S", 34.0))
"""Mix and requests per second for 16 instances; larger fleets get proportionally more."""
POLICIES = ("llumdeck", "llumnix", "infaas++")
HEADLINE = "llumdeck"
BARS = {"simulated_requests_per_cpu_s_16": 15_000, "simulated_requests_per_cpu_s_64": 5_000}
PLAN_INSTANCES = 1024
PLAN_BAR_MS = 10.0


def run_cell(policy: str, mix: str, rate: float, instances: int, requests: int, reps: int) -> dict[str, Any]:
    """The fastest of ``reps`` runs of one cell."""
    workload = generate(mix, rate * instances / 16, requests, seed=1)
    config = SimulationConfig(SchedulingConfig.for_policy(policy), instances, latency.load())
    results = [simulate(workload, config) for _ in range(reps)]
    if len({result.events_sha256 for result in results}) != 1:
        raise SystemExit(f"{policy} on {workload.name}: the same seed gave different histories")
    cpu_s = min(result.cpu_s for result in results)
    return {
        "policy": policy,
        "workload": workload.name,
        "instances": instances,
        "requests": requests,
        "cpu_s": cpu_s,
        "requests_per_cpu_s": requests / cpu_s,
        "steps_per_cpu_s": results[0].steps / cpu_s,
        "events_sha256": results[0].events_sha256,
    }


def run_plan(instances: int, reps: int) -> float:
    """CPU milliseconds of one plan over a fleet of 100 requests each, a tenth of it overloaded."""
    members = tuple(
        InstanceSnapshot(
            instance_id=f"i{number:04d}",
            capacity_tokens=13_360,
            used_tokens=13_200 if number % 10 == 0 else 6_000 + 5 * number % 4_000,
            reserved_tokens=0,
            running=100,
            waiting=0,
            head_of_line_tokens=0,
            queued_tokens=0,
        )
        for number in range(instances)
    )
    config = SchedulingConfig.for_policy(HEADLINE, scaling={"enabled": True, "max_instances": 2 * instances})
    ledger = Ledger()
    times = []
    for _ in range(reps):
        started = time.process_time()
        decisions, _ = plan(ClusterSnapshot(100.0, members), PlanState(), config, ledger)
        times.append(time.process_time() - started)
    if not decisions:
        raise SystemExit("the plan had nothing to do; the benchmark's fleet is wrong")
    return min(times) * 1e3


def measure(quick: bool) -> dict[str, Any]:
    """All cells, the plan, and the headline numbers."""
    requests, reps = (2_000, 2) if quick else (10_000, 3)
    policies = (HEADLINE,) if quick else POLICIES
    cells = []
    for instances in (16, 64):
        for policy in policies:
            for mix, rate in CELLS:
                cells.append(run_cell(policy, mix, rate, instances, requests, reps))
                print(row(cells[-1]), flush=True)
    found: dict[str, Any] = {
        f"simulated_requests_per_cpu_s_{instances}": together(cells, HEADLINE, instances)
        for instances in (16, 64)
    }
    found["plan_ms_1024"] = run_plan(PLAN_INSTANCES, 5 if quick else 20)
    found["headline_policy"] = HEADLINE
    found["cells"] = cells
    return found


def together(cells: list[dict[str, Any]], policy: str, instances: int) -> float:
    """All requests of a policy's cells over all their CPU time."""
    rows = [cell for cell in cells if cell["policy"] == policy and cell["instances"] == instances]
    return float(sum(cell["requests"] for cell in rows) / sum(cell["cpu_s"] for cell in rows))


def row(cell: dict[str, Any]) -> str:
    return (
        f"{cell['instances']:>3} instances  {cell['policy']:<10} {cell['workload']:<18} "
        f"{cell['requests_per_cpu_s']:>8.0f} requests/CPU-s  {cell['steps_per_cpu_s']:>10.0f} steps/CPU-s"
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the bars; 0 also when a bar is missed (the machine may be slow)."""
    parser = argparse.ArgumentParser(prog="benchmarks.simulator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests, one policy")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args(arguments)
    found = measure(options.quick)
    for key, bar in BARS.items():
        print(f"{key}: {found[key]:.0f} (bar {bar})")
    print(f"plan at {PLAN_INSTANCES} instances: {found['plan_ms_1024']:.2f} ms CPU (bar {PLAN_BAR_MS:g})")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
