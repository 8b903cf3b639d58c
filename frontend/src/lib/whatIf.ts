// Two simulated policies side by side: rows of the comparison, and points of its lines. Pure.

import type { SystemRun } from "../api/whatif";
import { count, duration, percent } from "./format";

export interface CompareRow {
  name: string;
  first: string;
  second: string;
  /** The second as a factor of the first; null where neither or only one happened. */
  factor: number | null;
  better: "less" | "more" | null;
}

type Read = (run: SystemRun) => number;

const ROWS: { name: string; read: Read; show: (value: number) => string; better: "less" | "more" | null }[] =
  [
    {
      name: "In target, all classes",
      read: (r) => r.metrics.service.all.slo_attainment,
      show: (v) => percent(v),
      better: "more",
    },
    {
      name: "First token, p50",
      read: (r) => r.metrics.service.all.prefill_s.p50,
      show: seconds,
      better: "less",
    },
    {
      name: "First token, p99",
      read: (r) => r.metrics.service.all.prefill_s.p99,
      show: seconds,
      better: "less",
    },
    {
      name: "Per token, p50",
      read: (r) => r.metrics.service.all.decode_s.p50,
      show: seconds,
      better: "less",
    },
    {
      name: "Per token, p99",
      read: (r) => r.metrics.service.all.decode_s.p99,
      show: seconds,
      better: "less",
    },
    {
      name: "Whole request, p99",
      read: (r) => r.metrics.service.all.request_s.p99,
      show: seconds,
      better: "less",
    },
    { name: "Longest wait", read: (r) => r.metrics.service.longest_wait_s, show: seconds, better: "less" },
    {
      name: "Lost to pre-emption, per request",
      read: (r) => r.metrics.service.all.preemption_loss_mean_s,
      show: seconds,
      better: "less",
    },
    { name: "Pre-emptions", read: (r) => r.metrics.service.all.preemptions, show: count, better: "less" },
    { name: "Refused requests", read: (r) => r.metrics.rejected, show: count, better: "less" },
    { name: "Moves", read: (r) => r.metrics.migrations_done, show: count, better: null },
    {
      name: "Memory used, mean",
      read: (r) => r.metrics.used_share_mean,
      show: (v) => percent(v),
      better: null,
    },
  ];

function seconds(value: number): string {
  return duration(value * 1000);
}

export function compareRows(first: SystemRun, second: SystemRun): CompareRow[] {
  return ROWS.map(({ name, read, show, better }) => {
    const [a, b] = [read(first), read(second)];
    return { name, first: show(a), second: show(b), factor: a > 0 && b > 0 ? b / a : null, better };
  });
}

/** Whether the second did better, worse, or about the same (within 2 %). */
export function verdict(row: CompareRow): "better" | "worse" | "same" | null {
  if (row.better === null) return null;
  if (row.factor === null) return row.first === row.second ? "same" : null;
  if (Math.abs(row.factor - 1) < 0.02) return "same";
  return row.factor > 1 === (row.better === "more") ? "better" : "worse";
}

export type Point = readonly [number, number];

export function points(xs: readonly number[], ys: readonly number[]): Point[] {
  return xs.map((x, index) => [x, ys[index] ?? 0] as const);
}

export interface Scale {
  low: number;
  high: number;
  log: boolean;
}

/** A scale over all values; a logarithmic one begins at the smallest above 0. */
export function scaleOf(values: readonly number[], log: boolean): Scale {
  const known = log ? values.filter((value) => value > 0) : values;
  const high = Math.max(...known, log ? 1e-9 : 1e-12);
  const low = log ? Math.min(...known, high) : 0;
  return { low: low === high && log ? high / 10 : low, high, log };
}

/** Where a value stands on its scale, 0 to 1. */
export function placeOn(scale: Scale, value: number): number {
  const { low, high, log } = scale;
  if (!log) return high === low ? 0 : (value - low) / (high - low);
  const at = Math.max(low, value);
  return Math.log(at / low) / Math.log(high / low);
}

/** Three or four round values to write at an axis. */
export function ticksOf(scale: Scale): number[] {
  if (!scale.log) return [0, scale.high / 2, scale.high];
  const [first, last] = [Math.ceil(Math.log10(scale.low) - 1e-9), Math.floor(Math.log10(scale.high) + 1e-9)];
  const step = Math.max(1, Math.ceil((last - first) / 4));
  const found: number[] = [];
  for (let power = first; power <= last; power += step) found.push(10 ** power);
  return found.length ? found : [scale.low, scale.high];
}
