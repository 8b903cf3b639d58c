// Arrays in, arrays out: what uPlot draws, from a history as the server sends it. Pure.

import type { HistoryFrame } from "../live/types";

export type Series = (number | null)[];
export type Columns = { at: Series } & Record<string, Series>;

/** One array per field; preemptions become those since the sample before, and a new engine starts at 0. */
export function columnsOf(frame: HistoryFrame): Columns {
  const columns: Columns = { at: [] };
  frame.fields.forEach((field, index) => {
    columns[field] = frame.points.map((point) => point[index] ?? null);
  });
  columns.preemptions = steps(columns.preemptions_total ?? []);
  return columns;
}

/** The growth of a counter between samples; null where either end is not known. */
export function steps(counter: Series): Series {
  return counter.map((value, index) => {
    const before = counter[index - 1];
    if (value === null || value === undefined || before === null || before === undefined) return null;
    return value < before ? value : value - before;
  });
}
