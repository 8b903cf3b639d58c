"""Coefficients of a latency model from step timings that were recorded on live engines.

A row is one engine step: ``prefill_tokens, prefill_context, batch, context_tokens,
duration_ms`` (the arguments of :meth:`LatencyModel.mixed_s` and what the step took).
Decode steps give the decode coefficients; steps with prompt tokens then give the
prefill coefficients. Both by least squares of the relative error, no coefficient below
0; every fifth row is kept out of the fit and tells how good it is.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.simulator.latency import LatencyModel, from_dict

Rows = NDArray[np.float64]

COLUMNS = ("prefill_tokens", "prefill_context", "batch", "context_tokens", "duration_ms")
LEAST_ROWS = 20
"""Fewer decode or prefill steps than this say too little."""
HELD_OUT_EVERY = 5


class FitError(ValueError):
    """The recorded steps cannot give coefficients; the text names file and line where there is one."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted coefficient file as plain data, and its mean relative errors on rows kept out."""

    coefficients: dict[str, Any]
    decode_rows: int
    prefill_rows: int
    decode_error: float
    prefill_error: float

    def model(self) -> LatencyModel:
        return from_dict(self.coefficients, "fit")


def read_steps(path: Path | str) -> Rows:
    """Rows of a CSV with :data:`COLUMNS` (in any order, others ignored). Raises :class:`FitError`."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise FitError(f"{path}:1: missing columns {', '.join(missing)}")
            rows = [_row(f"{path}:{reader.line_num}", row) for row in reader]
    except OSError as error:
        raise FitError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FitError(f"{path}: not a CSV text file: {error}") from error
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(COLUMNS))


def _row(where: str, row: dict[str, str]) -> tuple[float, ...]:
    values = []
    for name in COLUMNS:
        try:
            value = float(row[name])
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value < math.inf:
            raise FitError(f"{where}: {name} must be a number of at least 0, got {row[name]!r}")
        values.append(value)
    if values[-1] <= 0:
        raise FitError(f"{where}: duration_ms must be above 0")
    return tuple(values)


def fit(rows: Rows, name: str, source: str, **fixed: float) -> Fit:
    """Coefficients of ``rows``; ``fixed`` are further fields of the file (``capacity_blocks`` at least).

    Raises :class:`FitError` when there are too few steps of a kind, and
    :class:`latency.LatencyModelError` when a fixed field is bad.
    """
    held_out = np.arange(len(rows)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    decodes, prompts = rows[:, 0] == 0, rows[:, 0] > 0
    for kind, chosen in (("decode steps (prefill_tokens 0)", decodes), ("steps with prompt tokens", prompts)):
        if chosen.sum() < LEAST_ROWS:
            raise FitError(f"{int(chosen.sum())} {kind}; at least {LEAST_ROWS} are needed")
    decode = _least_squares(_decode_terms(rows[decodes & ~held_out]), rows[decodes & ~held_out, 4])
    training = rows[prompts & ~held_out]
    prefill = _least_squares(_prefill_terms(training), training[:, 4] - decode[2] * training[:, 3])
    coefficients = {
        "name": name,
        "source": source,
        "prefill_constant_ms": prefill[0],
        "prefill_ms_per_token": prefill[1],
        "prefill_ms_per_token_squared": prefill[2],
        "decode_constant_ms": decode[0],
        "decode_ms_per_sequence": decode[1],
        "decode_ms_per_context_token": decode[2],
        **fixed,
    }
    model = from_dict(coefficients, name)
    return Fit(
        coefficients,
        int(decodes.sum()),
        int(prompts.sum()),
        relative_error(model, rows[decodes & held_out]),
        relative_error(model, rows[prompts & held_out]),
    )


def relative_error(model: LatencyModel, rows: Rows) -> float:
    """Mean of \\|model - measured\\| / measured over ``rows``; 0 when there is none."""
    if not len(rows):
        return 0.0
    errors = [
        abs(1000 * model.mixed_s(int(r[0]), int(r[1]), int(r[2]), int(r[3])) - r[4]) / r[4] for r in rows
    ]
    return float(np.mean(errors))


def _decode_terms(rows: Rows) -> Rows:
    return np.column_stack([np.ones(len(rows)), rows[:, 2], rows[:, 3]])


def _prefill_terms(rows: Rows) -> Rows:
    tokens, context, batch = rows[:, 0], rows[:, 1], rows[:, 2]
    return np.column_stack([np.ones(len(rows)), tokens + batch, tokens * (tokens + 2 * context)])


def _least_squares(terms: Rows, measured: NDArray[np.float64]) -> list[float]:
    """Coefficients of at least 0 with the least relative errors: negative ones are dropped, worst first."""
    measured = np.maximum(measured, 1e-6)
    weighted = terms / measured[:, None]
    kept = list(range(terms.shape[1]))
    while True:
        solution, *_ = np.linalg.lstsq(weighted[:, kept], np.ones(len(measured)), rcond=None)
        if solution.min() >= 0 or len(kept) == 1:
            break
        kept.pop(int(solution.argmin()))
    coefficients = [0.0] * terms.shape[1]
    for index, value in zip(kept, solution, strict=True):
        coefficients[index] = max(0.0, float(value))
    return coefficients
