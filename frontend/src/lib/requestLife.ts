// The life of one request: what it did when, and what its client saw of it. Pure.

import type { RequestDetail, TimelineSegment } from "../api/shapes";
import type { Migration } from "../live/types";

export interface Span {
  kind: string;
  instance: string;
  /** Seconds since arrival. */
  from: number;
  to: number;
}

export interface Life {
  /** Epoch seconds of the arrival. */
  start: number;
  /** Seconds from arrival to the end, or to now. */
  length: number;
  spans: Span[];
}

export const seconds = (text: string): number => Date.parse(text) / 1000;

export function lifeOf(request: RequestDetail, now: number): Life {
  const start = seconds(request.arrived_at);
  const end = request.finished_at ? seconds(request.finished_at) : Math.max(now, start);
  const spans = request.segments.map((segment) => spanOf(segment, start, end));
  return { start, length: Math.max(0.001, end - start), spans };
}

function spanOf(segment: TimelineSegment, start: number, end: number): Span {
  const from = seconds(segment.begin) - start;
  const to = Math.min(end, seconds(segment.end)) - start;
  return { kind: segment.kind, instance: segment.instance ?? "", from, to: Math.max(from, to) };
}

export interface ClientView {
  sentence: string;
  pauses: { name: string; ms: number }[];
}

/** What the client's stream showed: its pauses, longest first. */
export function clientView(request: RequestDetail, moves: readonly Migration[], life: Life): ClientView {
  const moved = moves.flatMap((move) =>
    move.downtime_ms === null
      ? []
      : [{ name: `move ${move.source} → ${move.destination}`, ms: move.downtime_ms }],
  );
  const recovered = life.spans
    .filter((span) => span.kind === "recovery")
    .map((span) => ({
      name: `recovery${span.instance ? ` on ${span.instance}` : ""}`,
      ms: (span.to - span.from) * 1000,
    }));
  const pauses = [...recovered, ...moved].sort((a, b) => b.ms - a.ms);
  return { sentence: streamWords(request, pauses.length), pauses };
}

function streamWords(request: RequestDetail, pauses: number): string {
  const outcome = request.outcome ?? "";
  if (!request.finished_at) return "Its stream is open.";
  if (outcome.startsWith("error")) return `Its stream ended with an error: ${outcome.slice(6).trim()}`;
  if (outcome === "abort") return "The client closed the stream before its end.";
  return pauses
    ? "One stream without an error. Moves and recoveries showed as the pauses below."
    : "One stream without an error, and no pause beyond the decode steps.";
}

export interface Lens {
  from: number;
  to: number;
  stages: { name: string; from: number; to: number; detail: string; final: boolean }[];
}

/** A move under the lens: its stages one after the other, from the times that the source measured. */
export function moveLens(move: Migration, start: number): Lens | null {
  if (move.stages.length === 0) return null;
  const end = (move.ended_at ?? move.updated_at) - start;
  const total = move.stages.reduce((sum, stage) => sum + stage.duration_ms, 0) / 1000;
  let at = end - total;
  const handOver = move.state === "done" ? move.stages.length - 1 : -1;
  const stages = move.stages.map((stage, index) => {
    const from = at;
    at += stage.duration_ms / 1000;
    const blocks = `${stage.blocks} ${stage.blocks === 1 ? "block" : "blocks"}`;
    const made = stage.tokens_meanwhile ? `, ${stage.tokens_meanwhile} tokens made meanwhile` : "";
    const final = index === handOver && Math.abs(stage.duration_ms - (move.downtime_ms ?? -1)) < 0.2;
    return {
      name: final ? "freeze, hand over" : `stage ${stage.stage}`,
      from,
      to: at,
      detail: `${blocks}${made}`,
      final,
    };
  });
  const margin = Math.max(0.02, total * 0.25);
  return { from: end - total - margin, to: end + margin, stages };
}
