"""Production traces as workloads: Azure's CSV, BurstGPT's CSV, or any (arrival, prompt, output[, class]) CSV.

The format is told by the header. Arrivals may be seconds or ISO dates; they are put in
order and counted from the first. A bad row is an error that names file, line and column.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controlplane.scheduling.snapshot import ClassRule
from controlplane.simulator.workloads import DEFAULT_CLASSES, SimRequest, Workload

MAX_ROWS = 5_000_000
MAX_TOKENS = 10_000_000
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
"""Near the traces, so that a float of seconds keeps their tenths of a microsecond."""


class TraceError(ValueError):
    """A trace cannot be read; the text names the file, and the line and column where there is one."""


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """Which columns hold what. A header matches when the first three are in it (in any case)."""

    name: str
    arrival: tuple[str, ...]
    prompt: tuple[str, ...]
    output: tuple[str, ...]
    slo_class: tuple[str, ...] = ()
    drops_failures: bool = False
    """Rows that made no token are requests that failed: left out and counted."""


AZURE = TraceFormat("azure", ("timestamp",), ("contexttokens",), ("generatedtokens",))
BURSTGPT = TraceFormat(
    "burstgpt", ("timestamp",), ("request tokens",), ("response tokens",), drops_failures=True
)
GENERIC = TraceFormat(
    "csv",
    arrival=("arrival", "arrival_s", "arrived_at", "arrival_time", "timestamp", "time"),
    prompt=("prompt", "prompt_tokens", "num_prefill_tokens", "input", "input_tokens", "input_length"),
    output=("output", "output_tokens", "num_decode_tokens", "output_length"),
    slo_class=("class", "slo_class", "priority"),
)
FORMATS = (AZURE, BURSTGPT, GENERIC)


@dataclass(frozen=True, slots=True)
class ImportedTrace:
    """A workload, the format it was read in and the rows of failed requests that were left out."""

    workload: Workload
    format_name: str
    failed_rows: int


@dataclass(frozen=True, slots=True)
class _Columns:
    format: TraceFormat
    arrival: int
    prompt: int
    output: int
    slo_class: int | None


def read_trace(
    path: Path | str,
    classes: Mapping[str, ClassRule] | None = None,
    default_class: str = "standard",
    limit: int | None = None,
) -> ImportedTrace:
    """Read a trace. ``limit`` keeps the first so many requests by arrival.

    Raises :class:`TraceError` for a file that is missing, empty, of an unknown format, or
    has a bad row.
    """
    path = Path(path)
    rules = dict(classes or DEFAULT_CLASSES)
    if default_class not in rules:
        raise TraceError(f"{path}: no SLO class {default_class!r}; there are {', '.join(rules)}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read(path, csv.reader(file), rules, default_class, limit)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error


def _read(
    path: Path, rows: Iterator[list[str]], rules: dict[str, ClassRule], default_class: str, limit: int | None
) -> ImportedTrace:
    columns = _columns(path, rows)
    requests: list[tuple[float, int, int, str]] = []
    failed = 0
    for line, row in _numbered(path, rows):
        parsed = _parse_row(f"{path}:{line}", row, columns, rules, default_class)
        if parsed is None:
            failed += 1
        else:
            requests.append(parsed)
    if not requests:
        raise TraceError(f"{path}: no requests in it")
    requests.sort(key=lambda request: request[0])
    first = requests[0][0]
    kept = [SimRequest(n, row[0] - first, *row[1:]) for n, row in enumerate(requests[:limit])]
    return ImportedTrace(Workload(path.stem, kept, rules), columns.format.name, failed)


def _numbered(path: Path, rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty with their line; malformed CSV and too many rows are errors."""
    line = 1
    while True:
        line += 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise TraceError(f"{path}:{line}: malformed CSV: {error}") from error
        if row is None:
            return
        if line > MAX_ROWS:
            raise TraceError(f"{path}: more than {MAX_ROWS} rows; cut it first")
        if row:
            yield line, row


def _columns(path: Path, rows: Iterator[list[str]]) -> _Columns:
    header = [name.strip().lower() for name in next(rows, [])]
    for form in FORMATS:
        found = [_index(header, names) for names in (form.arrival, form.prompt, form.output)]
        if None not in found:
            arrival, prompt, output = (index for index in found if index is not None)
            return _Columns(form, arrival, prompt, output, _index(header, form.slo_class))
    raise TraceError(
        f"{path}:1: unknown columns {', '.join(header) or '(none)'}; expected Azure's (TIMESTAMP, "
        "ContextTokens, GeneratedTokens), BurstGPT's (Timestamp, Request tokens, Response tokens) "
        "or arrival, prompt, output[, class]"
    )


def _index(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _parse_row(
    where: str, row: list[str], columns: _Columns, rules: dict[str, ClassRule], default_class: str
) -> tuple[float, int, int, str] | None:
    """(arrival in seconds, prompt, output, class), or ``None`` for a request that failed."""
    arrival = _arrival(where, _cell(where, row, columns.arrival, "arrival"))
    least = 0 if columns.format.drops_failures else 1
    prompt = _tokens(where, "prompt", _cell(where, row, columns.prompt, "prompt"), least)
    output = _tokens(where, "output", _cell(where, row, columns.output, "output"), least)
    if prompt == 0 or output == 0:
        return None
    slo_class = default_class
    if columns.slo_class is not None:
        slo_class = _cell(where, row, columns.slo_class, "class") or default_class
        if slo_class not in rules:
            raise TraceError(f"{where}: class {slo_class!r} is unknown; there are {', '.join(rules)}")
    return arrival, prompt, output, slo_class


def _cell(where: str, row: list[str], index: int, what: str) -> str:
    if index >= len(row):
        raise TraceError(f"{where}: the row ends before its {what} column (column {index + 1})")
    return row[index].strip()


def _tokens(where: str, what: str, text: str, least: int) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= MAX_TOKENS) or value != int(value):
        raise TraceError(
            f"{where}: {what} must be a whole number of tokens from {least} to {MAX_TOKENS}, got {text!r}"
        )
    return int(value)


def _arrival(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_of_date(where, text)
    if not math.isfinite(seconds):
        raise TraceError(f"{where}: arrival must be finite, got {text!r}")
    return seconds


def _seconds_of_date(where: str, text: str) -> float:
    """ISO dates with up to nine digits of a second (Azure has seven); no time zone means UTC."""
    whole, dot, fraction = text.partition(".")
    digits = fraction.rstrip("Z")
    try:
        if dot and digits.isdigit():
            moment, part = datetime.fromisoformat(whole), float(f"0.{digits}")
        else:
            moment, part = datetime.fromisoformat(text), 0.0
    except ValueError:
        raise TraceError(f"{where}: arrival must be seconds or an ISO date, got {text!r}") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH).total_seconds() + part
