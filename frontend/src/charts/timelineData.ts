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

/** Columns as lines of text: a head of names, then a row per sample; what is not known stays empty. */
export function csvOf(columns: Columns): string {
  const names = ["at", ...Object.keys(columns).filter((name) => name !== "at")];
  const rows = columns.at.map((_, index) => names.map((name) => columns[name]?.[index] ?? "").join(","));
  return `${[names.join(","), ...rows].join("\n")}\n`;
}
