// The words of the design: how a move stands and why it stopped. Pure.

import type { Migration, Stage } from "../live/types";

export type Outcome = "running" | "finished" | "stopped" | "doubt" | "late";

export function outcomeOf(move: Migration): Outcome {
  if (move.state === "done") return "finished";
  if (move.ended_at !== null) return /time/i.test(move.reason) ? "late" : "stopped";
  return move.state === "in_doubt" ? "doubt" : "running";
}

interface StopRule {
  match: RegExp;
  short: string;
  long(move: Migration): string;
}

const STOPS: StopRule[] = [
  {
    match: /finish|gone|not here|unknown request/i,
    short: "Request finished first",
    long: (move) => `the request finished on ${move.source} before the copy ended.`,
  },
  {
    match: /preempt/i,
    short: "Preempted at the source",
    long: (move) => `the request was preempted on ${move.source}; it waits there.`,
  },
  {
    match: /room|memory|blocks/i,
    short: "No memory at the destination",
    long: (move) => `${move.destination} had no memory for it; it goes on at ${move.source}.`,
  },
  {
    match: /caught up/i,
    short: "The copy did not catch up",
    long: (move) => `the request grew faster than it was copied; it goes on at ${move.source}.`,
  },
  {
    match: /gateway/i,
    short: "Its gateway ended the move",
    long: () => "its gateway ended the move; the gateway says where the request goes on.",
  },
  {
    match: /link|copying failed/i,
    short: "The engines lost each other",
    long: (move) =>
      `the connection between ${move.source} and ${move.destination} broke; it goes on at ${move.source}.`,
  },
  {
    match: /slot/i,
    short: "No free slot at the destination",
    long: (move) => `${move.destination} was busy with other moves; it goes on at ${move.source}.`,
  },
  {
    match: /time|no answer|silent|unreachable/i,
    short: "No answer in time",
    long: (move) => `no answer in stage ${move.stages.length}; it goes on at ${move.source}.`,
  },
  {
    match: /drain|stopping/i,
    short: "Destination stopped taking work",
    long: (move) => `${move.destination} takes no work now; it goes on at ${move.source}.`,
  },
  {
    match: /incompat|version/i,
    short: "Engines do not match",
    long: (move) =>
      `${move.source} and ${move.destination} differ in model or version; it goes on at ${move.source}.`,
  },
];

export function stopShort(move: Migration): string {
  return stopWords(move.reason);
}

/** An agent's reason in a few words; its own where none is known. */
export function stopWords(reason: string): string {
  return STOPS.find((rule) => rule.match.test(reason))?.short ?? (reason || "Stopped, no reason given");
}

/** A full sentence: why it stopped and where the request is now. */
export function stopLong(move: Migration): string {
  const rule = STOPS.find((each) => each.match.test(move.reason));
  if (rule) return `Stopped: ${rule.long(move)}`;
  const reason = move.reason || "no reason given";
  return move.state === "refused"
    ? `${move.source} did not take the move: ${reason}. It goes on at ${move.source}.`
    : `Stopped: ${reason}. It goes on at ${move.source}.`;
}

const RULES: Record<string, string> = {
  load: "overload",
  preempted: "preempted request",
  drain: "drain",
  hole: "waiting request",
  manual: "by hand",
  headroom: "room for a higher class",
};

/** What a rule does with requests, in a few words; its own name where none is known. */
export function moveRuleWords(rule: string): string {
  return RULES[rule] ?? rule.replaceAll("_", " ");
}

/** Why it moves: the rule, in words, with the agent's choice after it. */
export function ruleWords(move: Migration): string {
  const rule = RULES[move.rule] ?? move.rule;
  if (move.rule === "manual" && move.actor && !move.actor.startsWith("system"))
    return `by hand, ${move.actor}`;
  if (move.rule === "drain") return `drain of ${move.source}`;
  return rule;
}

export function blocksOf(move: Migration): number | null {
  return move.stages.length ? move.stages.reduce((sum, stage) => sum + stage.blocks, 0) : null;
}

export function bytesOf(move: Migration): number {
  return move.stages.reduce((sum, stage) => sum + stage.bytes, 0);
}

/** The copies of a move and, once it is done, the hand-over: the source reports it as the last stage. */
export function splitStages(move: Migration): { copies: Stage[]; handOver: Stage | null } {
  const last = move.stages.at(-1);
  if (!last || move.state !== "done" || Math.abs(last.duration_ms - (move.downtime_ms ?? -1)) > 0.15) {
    return { copies: move.stages, handOver: null };
  }
  return { copies: move.stages.slice(0, -1), handOver: last };
}

/** Ids of moves begin with their pool and epoch; what tells them apart stands at the end. */
export function shortMove(id: string): string {
  return id.length <= 14 ? id : `…${id.split("-").slice(-2).join("-").slice(-12)}`;
}

/** Long ids are cut in lists; the whole id stands in the title. */
export function shortId(id: string): string {
  return id.length <= 14 ? id : `${id.slice(0, 13)}…`;
}
