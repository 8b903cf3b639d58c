"""What is in a workload: rate, burstiness, lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.simulator.workloads import Workload

WINDOWS_S = (1, 10, 60)


def statistics(workload: Workload) -> dict[str, Any]:
    """Plain data: counts, rate, coefficient of variation of gaps, dispersion, lengths per side, classes."""
    requests = workload.requests
    arrivals = np.array([r.arrival_s for r in requests])
    gaps = np.diff(arrivals)
    prompts = np.array([r.prompt_tokens for r in requests], dtype=np.float64)
    outputs = np.array([r.output_tokens for r in requests], dtype=np.float64)
    classes: dict[str, int] = {}
    for request in requests:
        classes[request.slo_class] = classes.get(request.slo_class, 0) + 1
    varied = len(requests) > 2
    return {
        "requests": len(requests),
        "duration_s": workload.duration_s,
        "rate_per_s": workload.rate_per_s,
        "gap_cv": float(gaps.std() / gaps.mean()) if varied and gaps.mean() > 0 else 0.0,
        "peak_over_mean_rate": {f"{w}s": _peak(arrivals, w) for w in WINDOWS_S},
        "index_of_dispersion": {f"{w}s": _dispersion(arrivals, w) for w in WINDOWS_S},
        "prompt_tokens": _lengths(prompts),
        "output_tokens": _lengths(outputs),
        "prompt_output_correlation": float(np.corrcoef(prompts, outputs)[0, 1])
        if varied and prompts.std() > 0 and outputs.std() > 0
        else 0.0,
        "classes": classes,
    }


def _lengths(tokens: NDArray[np.float64]) -> dict[str, float]:
    cuts = np.percentile(tokens, [50, 80, 90, 95, 99])
    names = ("p50", "p80", "p90", "p95", "p99")
    return {
        "mean": float(tokens.mean()),
        **dict(zip(names, map(float, cuts), strict=True)),
        "max": float(tokens.max()),
    }


def _per_window(arrivals: NDArray[np.float64], window_s: int) -> NDArray[np.intp]:
    """Requests in each whole window."""
    windows = int((arrivals[-1] - arrivals[0]) // window_s)
    index = ((arrivals - arrivals[0]) // window_s).astype(int)
    return np.bincount(index[index < windows], minlength=windows) if windows else np.array([], dtype=np.intp)


def _peak(arrivals: NDArray[np.float64], window_s: int) -> float:
    counts = _per_window(arrivals, window_s)
    return float(counts.max() / counts.mean()) if len(counts) and counts.mean() > 0 else 1.0


def _dispersion(arrivals: NDArray[np.float64], window_s: int) -> float:
    counts = _per_window(arrivals, window_s)
    return float(counts.var() / counts.mean()) if len(counts) and counts.mean() > 0 else 0.0
