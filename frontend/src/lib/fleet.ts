// What the numbers of the fleet add up to. Pure; every screen takes its sums from here, so that they agree.

import { freshness, STALE_S } from "../live/freshness";
import type { LiveState } from "../live/reducer";
import type { Instance, Migration, SloClass } from "../live/types";

export const FULL_SHARE = 0.9;
export const VERY_FULL_SHARE = 0.97;

export function usedShare(instance: Instance): number | null {
  if (instance.total_blocks === null || instance.used_blocks === null || instance.total_blocks === 0)
    return null;
  return (instance.used_blocks + (instance.reserved_blocks ?? 0)) / instance.total_blocks;
}

export function freeTokens(instance: Instance): number | null {
  const { total_blocks, used_blocks, reserved_blocks, block_size_tokens } = instance;
  if (total_blocks === null || used_blocks === null || block_size_tokens === null) return null;
  return Math.max(0, total_blocks - used_blocks - (reserved_blocks ?? 0)) * block_size_tokens;
}

/** Wished drained, or a ready agent that takes nothing; one that still loads is not draining. */
export function isDraining(instance: Instance): boolean {
  return instance.wanted_accepting === false || (instance.state === "ready" && instance.accepting === false);
}

export function isServing(instance: Instance): boolean {
  return instance.state === "ready" && !isDraining(instance);
}

/** One word for an instance's state, as shown. */
export function stateWord(instance: Instance, now: number): string {
  const { freshness: age } = freshness(instance.heard_at, now);
  if (age === "unknown") return instance.row_state ?? "unknown";
  if (age === "stale") return "silent";
  if (instance.row_state === "drained" || (isDraining(instance) && !instance.running && !instance.waiting)) {
    return "drained";
  }
  if (isDraining(instance)) return "draining";
  if (instance.state === "ready") return "serving";
  return instance.state ?? "unknown";
}

export type Level = "hurt" | "risk" | "good" | "moving" | "unknown";

/** How an instance is: hurt when requests suffer on it now, at risk when they may soon. */
export function instanceLevel(instance: Instance, now: number): Level {
  const { freshness: age } = freshness(instance.heard_at, now);
  if (age === "unknown" || age === "stale") return "unknown";
  if (isDraining(instance)) return "moving";
  if (instance.state !== "ready") return "unknown";
  const share = usedShare(instance) ?? 0;
  if ((instance.freeness ?? 0) < 0 && (instance.waiting ?? 0) > 0) return "hurt";
  if (share >= FULL_SHARE || (instance.waiting ?? 0) > 0) return "risk";
  return "good";
}

/** Instances by pool and then in the natural order of their names (main-2 before main-10). */
export function ordered(state: LiveState, pool: string | null): Instance[] {
  const natural = new Intl.Collator("en", { numeric: true });
  return [...state.instances.values()]
    .filter((instance) => pool === null || instance.pool === pool)
    .sort((a, b) => natural.compare(a.id, b.id));
}

export interface Totals {
  instances: number;
  serving: number;
  fresh: number;
  running: number;
  waiting: number;
  totalTokens: number;
  freeTokens: number;
  largest: { tokens: number; instance: string } | null;
  /** The largest demand at the head of a queue; no instance: it waits in front of the fleet. */
  wanted: { tokens: number; instance: string } | null;
  meanFreeness: number | null;
}

/** Sums over instances whose report is not stale; what is not known is not counted. */
export function totals(instances: readonly Instance[], now: number): Totals {
  const fresh = instances.filter((item) => isFresh(item, now));
  const serving = fresh.filter(isServing);
  const sum = (pick: (item: Instance) => number | null) =>
    fresh.reduce((total, item) => total + (pick(item) ?? 0), 0);
  const freenesses = serving.flatMap((item) => (item.freeness === null ? [] : [item.freeness]));
  return {
    instances: instances.length,
    serving: serving.length,
    fresh: fresh.length,
    running: sum((item) => item.running),
    waiting: sum((item) => item.waiting),
    totalTokens: sum((item) => (item.total_blocks ?? 0) * (item.block_size_tokens ?? 0)),
    freeTokens: sum(freeTokens),
    largest: largest(serving, freeTokens),
    wanted: largest(
      fresh.filter((item) => (item.waiting ?? 0) > 0),
      (item) => (item.head_of_line_blocks ?? 0) * (item.block_size_tokens ?? 0),
    ),
    meanFreeness: freenesses.length ? freenesses.reduce((a, b) => a + b, 0) / freenesses.length : null,
  };
}

/** With those that wait in front of the fleet: their number, and what the first of them needs. */
export function withQueue(sums: Totals, state: LiveState): Totals {
  const queued = [...state.gateways.values()].reduce((sum, gateway) => sum + gateway.queued, 0);
  const first = state.queue[0];
  const wanted =
    first && first.needed_tokens > (sums.wanted?.tokens ?? 0)
      ? { tokens: first.needed_tokens, instance: "" }
      : sums.wanted;
  return { ...sums, waiting: sums.waiting + Math.max(queued, state.queue.length), wanted };
}

export function isFresh(instance: Instance, now: number): boolean {
  const { freshness: age } = freshness(instance.heard_at, now);
  return age === "live" || age === "late";
}

function largest(
  instances: readonly Instance[],
  pick: (item: Instance) => number | null,
): { tokens: number; instance: string } | null {
  let best: { tokens: number; instance: string } | null = null;
  for (const item of instances) {
    const tokens = pick(item) ?? 0;
    if (tokens > 0 && (best === null || tokens > best.tokens)) best = { tokens, instance: item.id };
  }
  return best;
}

/** Null when no instance has a fresh report. */
export interface ClassNow {
  running: number | null;
  waiting: number | null;
}

export function classNow(instances: readonly Instance[], name: string, now: number): ClassNow {
  const fresh = instances.filter((item) => isFresh(item, now));
  if (fresh.length === 0) return { running: null, waiting: null };
  const result = { running: 0, waiting: 0 };
  for (const instance of fresh) {
    for (const load of instance.classes) {
      if (load.slo_class !== name) continue;
      result.running += load.running;
      result.waiting += load.waiting;
    }
  }
  return result;
}

/** The share that met its targets: the lower of first token and next tokens. */
export function attained(row: SloClass): { share: number; of: "ttft" | "tpot" } | null {
  const { ttft_attained: ttft, tpot_attained: tpot } = row;
  if (ttft === null && tpot === null) return null;
  if (tpot === null || (ttft !== null && ttft <= tpot)) return { share: ttft as number, of: "ttft" };
  return { share: tpot, of: "tpot" };
}

export function isHurt(row: SloClass): boolean {
  const met = attained(row);
  return met !== null && (row.requests ?? 0) > 0 && met.share < row.objective;
}

/** Classes below their objective, worst first. */
export function hurtClasses(state: LiveState): SloClass[] {
  const gap = (row: SloClass) => row.objective - (attained(row)?.share ?? 1);
  return byRank(state)
    .filter(isHurt)
    .sort((a, b) => gap(b) - gap(a));
}

export function byRank(state: LiveState): SloClass[] {
  return [...state.classes.values()].sort((a, b) => a.rank - b.rank || a.name.localeCompare(b.name));
}

export function runningMoves(state: LiveState): Migration[] {
  return [...state.migrations.values()]
    .filter((move) => move.ended_at === null)
    .sort((a, b) => b.started_at - a.started_at || a.id.localeCompare(b.id));
}

/** Running moves of which there was news lately: only those are drawn as going on. */
export function liveMoves(state: LiveState, now: number): Migration[] {
  return runningMoves(state).filter((move) => now - move.updated_at < STALE_S);
}

export function endedMoves(state: LiveState): Migration[] {
  return [...state.migrations.values()]
    .filter((move) => move.ended_at !== null)
    .sort((a, b) => (b.ended_at ?? 0) - (a.ended_at ?? 0) || a.id.localeCompare(b.id));
}

/** Nearest-rank percentile; null of nothing. */
export function percentile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? null;
}
