// The one sentence of health and its five answers: who is hurt, where, what Llumdeck is doing about it,
// what you can do, proof. Pure.

import { freshness } from "../live/freshness";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import {
  attained,
  byRank,
  endedMoves,
  FULL_SHARE,
  hurtClasses,
  isDraining,
  isFresh,
  type Level,
  percentile,
  runningMoves,
  type Totals,
  totals,
  usedShare,
  withQueue,
} from "./fleet";
import { age, capital, clock, count, duration, lasting, percent, plural } from "./format";
import { loopDownSince } from "./holds";
import { waitingRequests } from "./queue";

export interface Cell {
  title: string;
  main: string;
  detail: string;
  link?: string;
}

export interface Situation {
  level: Level;
  sentence: string;
  /** For the top bar. */
  brief: string;
  who: Cell;
  where: Cell;
  doing: Cell;
  proof: Cell;
  /** The instance that draining would help most, if any. */
  suspect: string | null;
}

export function situation(state: LiveState, instances: readonly Instance[], now: number): Situation {
  const sums = withQueue(totals(instances, now), state);
  const head = headline(state, instances, sums, now);
  const suspect = fullest(instances, now);
  return {
    ...head,
    who: who(state, instances, sums, now),
    where: away(state, now) ?? where(instances, sums, now),
    doing: doing(state, instances, now),
    proof: proof(state),
    suspect: suspect && (usedShare(suspect) ?? 0) >= FULL_SHARE ? suspect.id : null,
  };
}

type Headline = Pick<Situation, "level" | "sentence" | "brief">;

function headline(state: LiveState, instances: readonly Instance[], sums: Totals, now: number): Headline {
  return (
    redisAway(state, now) ??
    databaseAway(state, now) ??
    nobodyServes(instances, sums, now) ??
    classHurt(state) ??
    loopDown(state, now) ??
    silent(instances, now) ??
    nearlyFull(state, instances, now) ??
    allWell(state, sums)
  );
}

function redisAway(state: LiveState, now: number): Headline | null {
  const redis = state.degraded.redis;
  if (!redis) return null;
  const since = lasting(now - redis.since);
  return {
    level: "risk",
    sentence: `Redis has not answered for ${since}. Requests are still served; live status and moves are on hold.`,
    brief: `Redis away for ${since}; requests are served`,
  };
}

function databaseAway(state: LiveState, now: number): Headline | null {
  const database = state.degraded.database;
  if (!database) return null;
  const since = lasting(now - database.since);
  return {
    level: "risk",
    sentence: `The database has not answered for ${since}. Requests are still served; history and actions are on hold.`,
    brief: `Database away for ${since}; requests are served`,
  };
}

function loopDown(state: LiveState, now: number): Headline | null {
  const since = loopDownSince(state);
  if (since === undefined) return null;
  const known = since === null ? "has not reported" : `has not ticked for ${lasting(now - since)}`;
  return {
    level: "risk",
    sentence: `The rebalancing loop ${known}. Requests are served; moves, drains and scaling are on hold.`,
    brief:
      since === null ? "No rebalancing loop" : `Loop down for ${lasting(now - since)}; requests are served`,
  };
}

function nobodyServes(instances: readonly Instance[], sums: Totals, now: number): Headline | null {
  if (sums.serving > 0) return null;
  const quiet = instances.filter((item) => freshness(item.heard_at, now).freshness === "stale").length;
  if (quiet > 0 && sums.fresh === 0) {
    return {
      level: "hurt",
      sentence: `No instance serves: ${quiet === 1 ? "the only one has" : `all ${quiet} have`} stopped reporting.`,
      brief: "No instance serves",
    };
  }
  const draining = instances.filter((item) => isFresh(item, now) && isDraining(item)).length;
  if (draining > 0) {
    return {
      level: "hurt",
      sentence: `No instance takes new requests: ${plural(draining, "is", "are")} draining.`,
      brief: "No instance takes new requests",
    };
  }
  const loading = instances.length;
  return {
    level: "unknown",
    sentence: loading
      ? `No instance serves yet; ${plural(loading, "is", "are")} loading.`
      : "No instance serves yet.",
    brief: loading ? `No instance serves yet; ${count(loading)} loading` : "No instance serves yet",
  };
}

function classHurt(state: LiveState): Headline | null {
  const hurt = hurtClasses(state)[0];
  const met = hurt && attained(hurt);
  if (!hurt || !met) return null;
  const name = capital(hurt.name);
  const verb = met.of === "ttft" ? "start within" : "stream within";
  const target =
    met.of === "ttft" ? duration(hurt.ttft_target_ms) : `${duration(hurt.tpot_target_ms)} per token`;
  return {
    level: "hurt",
    sentence: `${name} is below its objective: ${percent(met.share)} of requests ${verb} ${target}; ${percent(hurt.objective, 0)} should.`,
    brief: `${name} below objective: ${percent(met.share)} ${verb} ${target}`,
  };
}

function silent(instances: readonly Instance[], now: number): Headline | null {
  const quiet = instances.filter((item) => freshness(item.heard_at, now).freshness === "stale");
  const first = quiet[0];
  if (!first) return null;
  const since = lasting(now - (first.heard_at ?? now));
  const subject =
    quiet.length === 1 ? `${first.id} has` : `${first.id} and ${plural(quiet.length - 1, "other")} have`;
  return {
    level: "risk",
    sentence: `${subject} not reported for ${since}; ${quiet.length === 1 ? "it gets" : "they get"} no new work.`,
    brief: `${quiet.length === 1 ? first.id : plural(quiet.length, "instance")} silent for ${since}`,
  };
}

function nearlyFull(state: LiveState, instances: readonly Instance[], now: number): Headline | null {
  const full = instances.filter((item) => isFresh(item, now) && (usedShare(item) ?? 0) >= FULL_SHARE);
  if (full.length === 0) return null;
  const moving = runningMoves(state).length;
  const doing = moving ? `; ${plural(moving, "request is", "requests are")} moving` : "";
  return {
    level: "risk",
    sentence: `${count(full.length)} of ${plural(instances.length, "instance")} ${full.length === 1 ? "is" : "are"} above ${percent(FULL_SHARE, 0)} memory${doing}.`,
    brief: `${count(full.length)} of ${count(instances.length)} above ${percent(FULL_SHARE, 0)} memory`,
  };
}

function allWell(state: LiveState, sums: Totals): Headline {
  const serving = `${plural(sums.serving, "instance serves", "instances serve")} ${plural(sums.running + sums.waiting, "request")}`;
  if (sums.running + sums.waiting === 0) {
    return {
      level: "good",
      sentence: `${plural(sums.serving, "instance is", "instances are")} ready; no requests now.`,
      brief: "Ready; no requests now",
    };
  }
  const measured = byRank(state).some((row) => attained(row) !== null);
  const targets = measured ? "every class is within its targets" : "nothing has finished in the last minute";
  return { level: "good", sentence: `${serving}; ${targets}.`, brief: capital(targets) };
}

function who(state: LiveState, instances: readonly Instance[], sums: Totals, now: number): Cell {
  const title = "Who is hurt";
  const hurt = hurtClasses(state);
  const waiting = waitWords(state, instances, sums, now);
  const first = hurt[0];
  if (!first) {
    const known = sums.fresh > 0 && byRank(state).some((row) => attained(row) !== null);
    return { title, main: known ? "Nobody" : "Nobody, as far as can be seen", detail: waiting };
  }
  const p99 =
    attained(first)?.of === "tpot"
      ? `p99 ${duration(first.tpot_p99_ms)} per token, target ${duration(first.tpot_target_ms)}.`
      : `First token p99 ${duration(first.ttft_p99_ms)}, target ${duration(first.ttft_target_ms)}.`;
  return { title, main: hurt.map((row) => row.name).join(", "), detail: `${p99} ${waiting}` };
}

/** Who has waited longest, and for how much; what gateways themselves say while reports are away. */
function waitWords(state: LiveState, instances: readonly Instance[], sums: Totals, now: number): string {
  const asked = state.degraded.redis?.gateways;
  if (asked) {
    const open = [...state.gateways.values()].reduce((sum, gateway) => sum + gateway.open_streams, 0);
    return `${count(asked.answered)} of ${plural(asked.asked, "gateway")} answered ${age(now - asked.at)} ago, ${plural(open, "stream")} open.`;
  }
  if (!sums.fresh) return "Waiting requests cannot be seen now.";
  const longest = [...waitingRequests(state, instances)].sort((a, b) => a.since - b.since)[0];
  if (!longest)
    return sums.waiting
      ? `${plural(sums.waiting, "request waits", "requests wait")} for memory.`
      : "No request waits for memory.";
  const others = Math.max(0, sums.waiting - 1);
  return `${longest.tenant || "A request"} waits ${lasting(now - longest.since)} for ${count(longest.neededTokens)} tokens${others ? `; ${plural(others, "other waits", "others wait")} too` : ""}.`;
}

/** The part that is away, while one is. */
function away(state: LiveState, now: number): Cell | null {
  const title = "Where";
  const { redis, database } = state.degraded;
  if (redis)
    return {
      title,
      main: "Redis",
      detail: `${capital(redis.error)}. ${database ? "The database does not answer either." : "The database answers."}`,
    };
  if (database) return { title, main: "The database", detail: `${capital(database.error)}. Redis answers.` };
  if (hurtClasses(state).length > 0) return null;
  const since = loopDownSince(state);
  if (since === undefined) return null;
  const leader = state.loop?.leader;
  return {
    title,
    main: "The rebalancing loop",
    detail:
      since === null
        ? "Nobody has led it since the start."
        : `${leader ? `${leader} ticked last` : "The last tick was"} at ${clock(since)} UTC, ${lasting(now - since)} ago.`,
  };
}

function fullest(instances: readonly Instance[], now: number): Instance | null {
  let best: Instance | null = null;
  for (const item of instances) {
    if (!isFresh(item, now) || usedShare(item) === null) continue;
    if (best === null || (usedShare(item) ?? 0) > (usedShare(best) ?? 0)) best = item;
  }
  return best;
}

function where(instances: readonly Instance[], sums: Totals, now: number): Cell {
  const title = "Where";
  const top = fullest(instances, now);
  if (!top)
    return { title, main: "No instance reports", detail: "What is shown below is the last that was known." };
  const share = usedShare(top);
  const free = sums.totalTokens ? percent(sums.freeTokens / sums.totalTokens) : "–";
  const gap = sums.largest
    ? `the largest gap is ${count(sums.largest.tokens)} tokens, on ${sums.largest.instance}.`
    : "no instance that takes work has a gap.";
  return {
    title,
    main: share === 0 ? "Nothing runs now" : `${top.id} is ${percent(share)} full`,
    detail: `${free} is free in total; ${gap}`,
    ...(share === 0 ? {} : { link: `/instances/${top.id}` }),
  };
}

function doing(state: LiveState, instances: readonly Instance[], now: number): Cell {
  const title = "What Llumdeck is doing";
  const { redis } = state.degraded;
  if (redis) {
    const wait = redis.next_try_at - now;
    return {
      title,
      main: `Trying again ${wait > 0.1 ? `in ${lasting(wait)}` : "now"}, attempt ${count(redis.attempts + 1)}`,
      detail: "Gateways dispatch on the last status and their own counts. Nothing new is moved.",
    };
  }
  const moves = runningMoves(state);
  const draining = instances.filter(isDraining);
  if (loopDownSince(state) !== undefined) {
    return {
      title,
      main: "Nothing is planned",
      detail: `A worker of the queue "loop" takes over by itself. ${moves.length ? `${plural(moves.length, "running move ends", "running moves end")} between their engines.` : "No move runs."}`,
    };
  }
  if (moves.length === 0 && draining.length === 0) {
    return { title, main: "Nothing to move", detail: `It looks every ${duration(state.loop?.interval_ms)}.` };
  }
  const sources = [...new Set(moves.map((move) => move.source))];
  const tokens = moves.reduce((sum, move) => sum + (move.tokens_at_start ?? 0), 0);
  const first = draining.length
    ? `Draining ${draining.map((item) => item.id).join(", ")}`
    : `Relieving ${sources.join(", ")}`;
  return {
    title,
    main: first,
    detail: moves.length
      ? `${plural(moves.length, "request is", "requests are")} moving${tokens ? `, ${count(tokens)} tokens in all` : ""}.`
      : "No move runs at this moment.",
    link: "/migrations",
  };
}

function proof(state: LiveState): Cell {
  const title = "Proof";
  const ended = endedMoves(state);
  const done = ended.filter((move) => move.state === "done");
  const downtimes = done.flatMap((move) => (move.downtime_ms === null ? [] : [move.downtime_ms]));
  if (ended.length === 0)
    return { title, main: "No move has ended yet", detail: "Moves and their downtime appear here." };
  return {
    title,
    main: `${plural(done.length, "move")} finished, ${count(ended.length - done.length)} stopped`,
    detail: downtimes.length
      ? `Downtime median ${duration(percentile(downtimes, 0.5))}, longest ${duration(Math.max(...downtimes))}.`
      : "None of them paused a stream.",
    link: "/migrations",
  };
}
