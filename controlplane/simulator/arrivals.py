"""When do requests arrive? Poisson and Gamma processes, and the mix of SLO classes; all seeded.

The Gamma process is the one of the Llumnix evaluation (OSDI'24, 6.1): inter-arrival
times of shape 1/CV^2 and scale CV^2/rate. A CV of 1 is a Poisson process.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ARRIVALS_STREAM = 0xA221
CLASSES_STREAM = 0xC1A5
"""Arrivals and classes have streams of their own: the same seed with another mix keeps the arrivals."""


def arrival_times(rate_per_s: float, count: int, seed: int, cv: float = 1.0) -> NDArray[np.float64]:
    """``count`` arrival times in seconds from 0, scaled so that their mean rate is exactly ``rate_per_s``.

    Without that the rate of 10,000 Poisson arrivals strays by one per cent from seed to
    seed, which near saturation moves a P99 twofold: seeds would compare rates, not
    policies. (The paper scales its lengths to their mean in the same way.)

    Raises :class:`ValueError` for a rate or coefficient of variation that is not positive.
    """
    if not rate_per_s > 0:
        raise ValueError(f"rate must be above 0 requests per second, got {rate_per_s:g}")
    if not cv > 0:
        raise ValueError(f"cv (coefficient of variation of inter-arrival times) must be above 0, got {cv:g}")
    rng = np.random.default_rng([ARRIVALS_STREAM, seed])
    shape = 1.0 / (cv * cv)
    times = np.cumsum(rng.gamma(shape, 1.0, count))
    scaled: NDArray[np.float64] = times * (count / (rate_per_s * times[-1]))
    return scaled


def draw_classes(shares: Mapping[str, float], count: int, seed: int) -> list[str]:
    """A class for each of ``count`` requests; ``shares`` are weights, scaled to a sum of 1.

    Raises :class:`ValueError` when there is no class, a negative share or only zeros.
    """
    weights = np.array(list(shares.values()), dtype=np.float64)
    if not len(weights) or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"class shares must be at least 0 and not all 0, got {dict(shares)}")
    if len(weights) == 1:
        return [next(iter(shares))] * count
    rng = np.random.default_rng([CLASSES_STREAM, seed])
    names = list(shares)
    return [names[index] for index in rng.choice(len(names), count, p=weights / weights.sum())]
