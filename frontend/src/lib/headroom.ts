// What a class's target load means for the fleet as it is. Pure.
// Others may fill an instance that hosts the class up to the target load; headroom is the capacity beyond it.

import type { Instance } from "../live/types";
import { isFresh, isServing } from "./fleet";

export interface HostNow {
  id: string;
  capacityTokens: number;
  usedTokens: number;
  arrivingTokens: number;
  /** Kept free from others now, and with the draft; never more than is free. */
  keptNow: number;
  keptDraft: number;
}

export interface HeadroomEffect {
  hosts: HostNow[];
  /** Instances that take work, hosts or not. */
  serving: number;
  poolTokens: number;
  keptNow: number;
  keptDraft: number;
}

/** Null target: the class keeps nothing. */
export function headroomEffect(
  instances: readonly Instance[],
  className: string,
  now: { target: number | null },
  draft: { target: number | null },
  at: number,
): HeadroomEffect {
  const serving = instances.filter((item) => isServing(item) && isFresh(item, at));
  const hosts = serving
    .filter((item) => item.classes.some((load) => load.slo_class === className && load.running > 0))
    .map((item) => host(item, now.target, draft.target));
  return {
    hosts,
    serving: serving.length,
    poolTokens: serving.reduce((sum, item) => sum + capacity(item), 0),
    keptNow: hosts.reduce((sum, item) => sum + item.keptNow, 0),
    keptDraft: hosts.reduce((sum, item) => sum + item.keptDraft, 0),
  };
}

function host(item: Instance, target: number | null, draft: number | null): HostNow {
  const block = item.block_size_tokens ?? 0;
  const usedTokens = (item.used_blocks ?? 0) * block;
  const arrivingTokens = (item.reserved_blocks ?? 0) * block;
  const free = Math.max(0, capacity(item) - usedTokens - arrivingTokens);
  const kept = (limit: number | null) =>
    limit === null ? 0 : Math.min(free, Math.max(0, capacity(item) - limit));
  return {
    id: item.id,
    capacityTokens: capacity(item),
    usedTokens,
    arrivingTokens,
    keptNow: kept(target),
    keptDraft: kept(draft),
  };
}

function capacity(item: Instance): number {
  return (item.total_blocks ?? 0) * (item.block_size_tokens ?? 0);
}
