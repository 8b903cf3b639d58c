// What deserves a look now, worst first, each with something to do. Pure.

import { freshness } from "../live/freshness";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import {
  attained,
  FULL_SHARE,
  hurtClasses,
  isDraining,
  isFresh,
  type Level,
  totals,
  usedShare,
  withQueue,
} from "./fleet";
import { capital, count, duration, lasting, percent, plural } from "./format";
import { loopDownSince } from "./holds";

export interface Problem {
  key: string;
  level: Level;
  title: string;
  detail: string;
  action:
    | { kind: "drain" | "undrain" | "open"; instance: string }
    | { kind: "page"; to: string; name: string }
    | null;
}

export function problems(state: LiveState, instances: readonly Instance[], now: number): Problem[] {
  return [
    ...fitsNowhere(state, instances, now),
    ...hurtClass(state),
    ...silentInstances(state, instances, now),
    ...failedInstances(instances),
    ...loopAway(state, now),
    ...fullInstances(instances, now),
    ...drainsWithoutRoom(instances, now),
  ];
}

function fitsNowhere(state: LiveState, instances: readonly Instance[], now: number): Problem[] {
  const { wanted, largest } = withQueue(totals(instances, now), state);
  if (!wanted || (largest && largest.tokens >= wanted.tokens)) return [];
  return [
    {
      key: "fits-nowhere",
      level: "hurt",
      title: `A request of ${count(wanted.tokens)} tokens fits nowhere`,
      detail: `First in line ${wanted.instance ? `on ${wanted.instance}` : "in front of the fleet"}; the largest gap is ${largest ? `${count(largest.tokens)} tokens, on ${largest.instance}` : "none"}. Another instance would take it; draining would not help.`,
      action: { kind: "page", to: "/scheduling/autoscaling", name: "Add an instance" },
    },
  ];
}

function hurtClass(state: LiveState): Problem[] {
  return hurtClasses(state).map((row) => {
    const met = attained(row);
    const of = met?.of === "tpot" ? "per token" : "to the first token";
    const p99 = met?.of === "tpot" ? row.tpot_p99_ms : row.ttft_p99_ms;
    const target = met?.of === "tpot" ? row.tpot_target_ms : row.ttft_target_ms;
    return {
      key: `class-${row.name}`,
      level: "hurt",
      title: `${capital(row.name)} is below its objective of ${percent(row.objective, 0)}`,
      detail: `${percent(met?.share)} in target · p99 ${duration(p99)} ${of}, target ${duration(target)}`,
      action: { kind: "page", to: "/tenants", name: "Show classes" },
    };
  });
}

function silentInstances(state: LiveState, instances: readonly Instance[], now: number): Problem[] {
  // Without Redis no report can arrive: that is one problem, told above, not one per instance.
  if (state.degraded.redis) return [];
  const silent = instances
    .filter((item) => freshness(item.heard_at, now).freshness === "stale")
    .sort((a, b) => (a.heard_at ?? 0) - (b.heard_at ?? 0));
  const first = silent[0];
  if (!first) return [];
  const since = lasting(now - (first.heard_at ?? now));
  return [
    {
      key: "silent",
      level: "hurt",
      title:
        silent.length === 1
          ? `${first.id} has not reported for ${since}`
          : `${plural(silent.length, "instance")} do not report, ${first.id} for ${since}`,
      detail:
        "No new work goes there. Gateways continue the requests elsewhere once an instance counts as dead.",
      action: { kind: "open", instance: first.id },
    },
  ];
}

function failedInstances(instances: readonly Instance[]): Problem[] {
  return instances
    .filter((item) => item.row_state === "unhealthy" || item.row_state === "quarantined")
    .map((item) => ({
      key: `failed-${item.id}`,
      level: "hurt" as const,
      title: `${item.id} is ${item.row_state}`,
      detail: item.cause || "No cause was recorded.",
      action: { kind: "open" as const, instance: item.id },
    }));
}

function loopAway(state: LiveState, now: number): Problem[] {
  const since = loopDownSince(state);
  if (since === undefined) return loopHalf(state);
  return [
    {
      key: "loop",
      level: "risk",
      title:
        since === null
          ? "The rebalancing loop has not reported"
          : `The rebalancing loop has not ticked for ${lasting(now - since)}`,
      detail:
        'Is a worker of the queue "loop" up, and does it reach Redis and the database? It takes the lead by itself.',
      action: { kind: "page", to: "/settings/system", name: "Show the system" },
    },
  ];
}

/** It ticks, and complains of a part that it works without. */
function loopHalf({ loop }: LiveState): Problem[] {
  if (!loop || loop.problems.length === 0) return [];
  return [
    {
      key: "loop-part",
      level: "risk",
      title: "The rebalancing loop works with less than it needs",
      detail: loop.problems.join(" · "),
      action: { kind: "page", to: "/settings/system", name: "Show the system" },
    },
  ];
}

function fullInstances(instances: readonly Instance[], now: number): Problem[] {
  const full = instances
    .filter((item) => isFresh(item, now) && !isDraining(item) && (usedShare(item) ?? 0) >= FULL_SHARE)
    .sort((a, b) => (usedShare(b) ?? 0) - (usedShare(a) ?? 0));
  const top = full[0];
  if (!top) return [];
  const names = full
    .slice(0, 3)
    .map((item) => item.id)
    .join(", ");
  const more = full.length > 3 ? ` and ${count(full.length - 3)} more` : "";
  const preempted = full.reduce((sum, item) => sum + (item.preempted_waiting ?? 0), 0);
  return [
    {
      key: "full",
      level: "risk",
      title: `${names}${more} ${full.length === 1 ? "is" : "are"} above ${percent(FULL_SHARE, 0)} memory`,
      detail: `${full
        .slice(0, 3)
        .map((item) => percent(usedShare(item)))
        .join(
          ", ",
        )}${preempted ? ` · ${plural(preempted, "preempted request waits", "preempted requests wait")} for memory` : ""}`,
      action: { kind: "drain", instance: top.id },
    },
  ];
}

function drainsWithoutRoom(instances: readonly Instance[], now: number): Problem[] {
  const { largest } = totals(instances, now);
  if (largest) return [];
  return instances
    .filter((item) => isFresh(item, now) && isDraining(item) && (item.running ?? 0) > 0)
    .map((item) => ({
      key: `stuck-${item.id}`,
      level: "risk" as const,
      title: `${item.id} cannot be drained now`,
      detail: `${plural(item.running ?? 0, "request")} on it, and no other instance takes work.`,
      action: { kind: "undrain" as const, instance: item.id },
    }));
}
