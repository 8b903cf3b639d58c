// What a drain means, in facts that are known now. Who goes where is the scheduler's choice, made
// one move at a time; so this counts and compares, and promises nothing else. Pure.

import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { freeTokens, isFresh, isServing } from "./fleet";
import { bytesOf } from "./words";

export interface DrainImpact {
  running: number;
  waiting: number;
  usedTokens: number;
  /** Other instances of the pool that take work now. */
  others: { id: string; tokens: number }[];
  freeElsewhere: number;
  largestElsewhere: number;
  fits: boolean;
  /** From the copy rate of recent moves; null when none was measured. */
  aboutMs: number | null;
}

export function drainImpact(state: LiveState, instance: Instance, now: number): DrainImpact {
  const others = [...state.instances.values()]
    .filter((item) => item.id !== instance.id && item.pool === instance.pool)
    .filter((item) => isServing(item) && isFresh(item, now))
    .map((item) => ({ id: item.id, tokens: freeTokens(item) ?? 0 }))
    .sort((a, b) => b.tokens - a.tokens || a.id.localeCompare(b.id));
  const usedTokens = (instance.used_blocks ?? 0) * (instance.block_size_tokens ?? 0);
  const freeElsewhere = others.reduce((sum, item) => sum + item.tokens, 0);
  const rate = copyRate(state);
  const size = usedTokens * (instance.kv_bytes_per_token ?? 0);
  return {
    running: instance.running ?? 0,
    waiting: instance.waiting ?? 0,
    usedTokens,
    others,
    freeElsewhere,
    largestElsewhere: others[0]?.tokens ?? 0,
    fits: freeElsewhere >= usedTokens && others.length > 0,
    aboutMs: rate && size ? (size / rate) * 1000 : null,
  };
}

/** Bytes per second of the stages of recent moves; null when nothing was measured. */
export function copyRate(state: LiveState): number | null {
  let bytes = 0;
  let ms = 0;
  for (const move of state.migrations.values()) {
    bytes += bytesOf(move);
    ms += move.stages.reduce((sum, stage) => sum + stage.duration_ms, 0);
  }
  return bytes > 0 && ms > 0 ? (bytes / ms) * 1000 : null;
}
