// A part is away: since when, what still works, what waits for it. Pure.

import type { LiveState } from "../live/reducer";
import { age, clock, count, plural } from "./format";

/** Lease, stand-by and a few ticks: a loop that says nothing for longer is away, as the server's health says too. */
export const LOOP_SILENT_S = 10;

export type Part = "redis" | "database" | "loop";
type Line = readonly [name: string, detail: string];

export interface Hold {
  part: Part;
  /** Seconds of the server's clock; null when it was never there. */
  since: number | null;
  /** "until Redis answers" */
  until: string;
  works: readonly Line[];
  worksAside: string;
  waits: readonly Line[];
  waitsAside: string;
}

/** Since when nobody leads the loop; undefined while somebody does. Told by the last frame: a page that lost
 * the console knows nothing of the loop. */
export function loopDownSince(state: LiveState): number | null | undefined {
  const { loop, degraded } = state;
  if (degraded.redis) return undefined;
  if (loop === null) return null;
  const silent = state.at - loop.last_tick_at;
  return silent >= LOOP_SILENT_S || loop.leader === "" ? loop.last_tick_at : undefined;
}

/** What is on hold now: the part most others depend on. */
export function holdOf(state: LiveState, now: number): Hold | null {
  return redisHold(state, now) ?? databaseHold(state) ?? loopHold(state);
}

const DISPATCH = "also new ones; gateways dispatch on the last status and their own counts";
const RECOVERY: Line = ["Recovery of a dead engine", "each gateway recovers its own streams"];

function redisHold(state: LiveState, now: number): Hold | null {
  const { redis } = state.degraded;
  if (!redis) return null;
  const wait = redis.next_try_at - now;
  return {
    part: "redis",
    since: redis.since,
    until: "until Redis answers",
    works: [
      ["Requests and streams", DISPATCH],
      ["Keys, classes and limits", "read from the database; each gateway counts limits for itself"],
      RECOVERY,
      ["History, audit, tenants", "read from the database"],
    ],
    worksAside: redis.gateways
      ? `${count(redis.gateways.answered)} of ${plural(redis.gateways.asked, "gateway")} answered ${age(now - redis.gateways.at)} ago`
      : "",
    waits: [
      ["Live map and memory", "the last that was seen, drawn grey and hatched"],
      ["Moves and drain", "the loop needs a fresh snapshot; nothing is planned blind"],
      ["Moves under way", "end between the engines; their outcomes arrive afterwards"],
      ["Autoscaling", `stays at ${plural(state.instances.size, "instance")}`],
    ],
    waitsAside: `${redis.error}; attempt ${count(redis.attempts)}, ${wait > 0.1 ? `next in ${age(wait)}` : "next one now"}`,
  };
}

function databaseHold(state: LiveState): Hold | null {
  const { database } = state.degraded;
  if (!database) return null;
  return {
    part: "database",
    since: database.since,
    until: "until the database answers",
    works: [
      ["Requests and streams", "with keys that were seen lately"],
      ["Live map, moves, drain", "the loop goes on by what it last read"],
      RECOVERY,
    ],
    worksAside: "",
    waits: [
      ["Sign-in and new keys", "nobody new is let in"],
      ["Changes", "classes, limits, policies, drains: nothing can be written"],
      ["History and audit", "kept in memory, stored afterwards"],
    ],
    waitsAside: `since ${clock(database.since)} UTC; ${database.error}`,
  };
}

function loopHold(state: LiveState): Hold | null {
  const since = loopDownSince(state);
  if (since === undefined) return null;
  const { loop } = state;
  return {
    part: "loop",
    since,
    until: "until the loop ticks",
    works: [
      ["Requests and streams", "also new ones; gateways place them by themselves"],
      ["Live map, memory, latency", "engines and gateways report as ever"],
      RECOVERY,
      ["Moves under way", "end between their engines"],
    ],
    worksAside: "",
    waits: [
      ["New moves", "also by hand; nothing relieves a full instance, so preemptions may rise"],
      ["Drain and undrain", "written down now, carried out when the loop ticks"],
      ["Autoscaling", `stays at ${plural(state.instances.size, "instance")}`],
      ["Policy changes", "saved now, in force when the loop ticks"],
    ],
    waitsAside:
      since === null
        ? "nobody has led since the start"
        : `since ${clock(since)} UTC${loop?.leader ? `; ${loop.leader} led last` : ""}`,
  };
}
