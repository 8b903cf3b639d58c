"""Prompt and output lengths: the paper's generator, and published marginals by quantiles.

*Short*, *Medium* and *Long* come from the generator of the Llumnix evaluation
(OSDI'24, Table 1), exactly: ranks 1..2*mean-1 with probability ~ rank^-alpha, drawn
by numpy's legacy generator, scaled to the mean, rounded up, cut at 6,144 tokens. Its
first 10,000 draws of seed 0 have the percentiles that the paper prints.

ShareGPT and BurstGPT are known by their quantiles only. Between two known quantiles
the length is a blend of linear and logarithmic interpolation; the one weight of the
blend is set so that the mean is the published one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int64]

PAPER_SEED = 0xCADE
"""The seed of the paper's artifact; our seed 0."""
MAX_SIDE_TOKENS = 6144


@dataclass(frozen=True, slots=True)
class ZipfLengths:
    """One of the paper's generated distributions."""

    mean_tokens: int
    alpha: float

    def draw(self, rng: np.random.RandomState, count: int) -> Lengths:
        """``count`` lengths in tokens, at least 1, from the legacy generator ``rng``."""
        ranks = np.arange(1, 2 * self.mean_tokens)
        weight = ranks.astype(np.float64) ** -self.alpha
        drawn = rng.choice(ranks, count, p=weight / weight.sum())
        scaled = np.ceil(drawn * (self.mean_tokens / drawn.mean()))
        lengths: Lengths = np.minimum(scaled, MAX_SIDE_TOKENS).astype(np.int64)
        return lengths


@dataclass(frozen=True, slots=True)
class QuantileLengths:
    """A distribution known by its mean and some quantiles, the ends (0 and 1) included."""

    mean_tokens: float
    quantiles: tuple[tuple[float, float], ...]

    def draw(self, rng: np.random.RandomState, count: int) -> Lengths:
        """``count`` lengths in tokens, at least 1, from the legacy generator ``rng``."""
        share = rng.random_sample(count)
        lengths: Lengths = np.maximum(np.rint(self.at(share)), 1).astype(np.int64)
        return lengths

    def at(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """The length below which ``share`` of the requests lie."""
        return self._blend(share, _blend_weight(self))

    def _blend(self, share: NDArray[np.float64], linear_weight: float) -> NDArray[np.float64]:
        at, value = (np.array(column) for column in zip(*self.quantiles, strict=True))
        linear: NDArray[np.float64] = np.interp(share, at, value)
        logarithmic: NDArray[np.float64] = np.exp(np.interp(share, at, np.log(value)))
        return linear_weight * linear + (1.0 - linear_weight) * logarithmic


@cache
def _blend_weight(lengths: QuantileLengths) -> float:
    """The weight of the linear part in [0, 1] whose mean is nearest to the published mean."""
    share = (np.arange(200_000) + 0.5) / 200_000
    low = float(lengths._blend(share, 0.0).mean())
    high = float(lengths._blend(share, 1.0).mean())
    return min(1.0, max(0.0, (lengths.mean_tokens - low) / (high - low)))


SHORT = ZipfLengths(128, 2.0)
MEDIUM = ZipfLengths(256, 1.5)
LONG = ZipfLengths(512, 1.15)
SHAREGPT_PROMPT = QuantileLengths(
    306, ((0.0, 1), (0.5, 74), (0.8, 348), (0.95, 1484), (0.99, 3388), (1.0, 4096))
)
SHAREGPT_OUTPUT = QuantileLengths(
    500, ((0.0, 1), (0.5, 487), (0.8, 781), (0.95, 988), (0.99, 1234), (1.0, 2048))
)
BURSTGPT_PROMPT = QuantileLengths(
    830, ((0.0, 1), (0.5, 582), (0.8, 1427), (0.95, 2345), (0.99, 3549), (1.0, MAX_SIDE_TOKENS))
)
BURSTGPT_OUTPUT = QuantileLengths(
    271, ((0.0, 1), (0.5, 243), (0.8, 434), (0.95, 669), (0.99, 964), (1.0, 2048))
)

LengthSource = ZipfLengths | QuantileLengths

MIXES: dict[str, tuple[LengthSource, LengthSource]] = {
    "ShareGPT": (SHAREGPT_PROMPT, SHAREGPT_OUTPUT),
    "BurstGPT": (BURSTGPT_PROMPT, BURSTGPT_OUTPUT),
    "S-S": (SHORT, SHORT),
    "M-M": (MEDIUM, MEDIUM),
    "L-L": (LONG, LONG),
    "S-L": (SHORT, LONG),
    "L-S": (LONG, SHORT),
}
"""The seven mixes of Figure 11: name -> (prompt, output)."""


def draw_mix(name: str, count: int, seed: int) -> tuple[Lengths, Lengths]:
    """Prompt and output lengths of a mix, drawn independently: prompts first, then outputs.

    Raises :class:`KeyError` with the known names when there is no such mix.
    """
    if name not in MIXES:
        raise KeyError(f"no length mix {name!r}; there are {', '.join(MIXES)}")
    prompt, output = MIXES[name]
    rng = np.random.RandomState(PAPER_SEED + seed)
    return prompt.draw(rng, count), output.draw(rng, count)
