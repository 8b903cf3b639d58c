// The live list of requests, from who holds memory and who waits. Pure.

import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { waitingRequests } from "./queue";

export interface LiveRow {
  requestId: string;
  tenant: string;
  sloClass: string;
  /** waiting, decoding, prefilling, handing over, preempted, queued */
  state: string;
  /** Empty while it waits in front of the fleet. */
  instance: string;
  promptTokens: number;
  outputTokens: number;
  blocks: number;
  arrivedAt: number;
  migrationId: string;
  why: string;
}

export interface Filters {
  text: string;
  state: string;
  instance: string;
  tenant: string;
  sloClass: string;
}

export type Order = "age" | "blocks" | "tokens" | "tenant";

const WORDS: Record<string, string> = { running: "decoding", frozen: "handing over" };

export function liveRows(state: LiveState, instances: readonly Instance[]): LiveRow[] {
  const why = new Map(waitingRequests(state, instances).map((item) => [item.requestId, item.why]));
  const held = instances.flatMap((instance) =>
    (state.residents.get(instance.id)?.requests ?? [])
      .filter((request) => request.state !== "arriving")
      .map((request) => ({
        requestId: request.request_id,
        tenant: request.tenant,
        sloClass: request.slo_class,
        state:
          request.state === "running" && request.output_tokens === 0
            ? "prefilling"
            : (WORDS[request.state] ?? request.state),
        instance: instance.id,
        promptTokens: request.prompt_tokens,
        outputTokens: request.output_tokens,
        blocks: request.blocks,
        arrivedAt: request.arrived_at,
        migrationId: request.migration_id,
        why: why.get(request.request_id) ?? "",
      })),
  );
  const known = new Set(held.map((row) => row.requestId));
  const queued = state.queue
    .filter((waiter) => !known.has(waiter.request_id))
    .map((waiter) => ({
      requestId: waiter.request_id,
      tenant: waiter.tenant,
      sloClass: waiter.slo_class,
      state: waiter.recovering ? "recovering" : "queued",
      instance: "",
      promptTokens: waiter.prompt_tokens,
      outputTokens: waiter.generated_tokens,
      blocks: 0,
      arrivedAt: waiter.since,
      migrationId: "",
      why: waiter.why,
    }));
  return [...queued, ...held];
}

const WAITING = new Set(["waiting", "queued", "preempted", "recovering"]);

export function isWaiting(row: Pick<LiveRow, "state">): boolean {
  return WAITING.has(row.state);
}

export function filtered(rows: readonly LiveRow[], filters: Filters): LiveRow[] {
  const text = filters.text.toLowerCase();
  return rows.filter(
    (row) =>
      (!filters.state ||
        (filters.state === "waiting"
          ? isWaiting(row)
          : filters.state === "moving"
            ? row.migrationId !== ""
            : !isWaiting(row))) &&
      (!filters.instance || row.instance === filters.instance) &&
      (!filters.tenant || row.tenant === filters.tenant) &&
      (!filters.sloClass || row.sloClass === filters.sloClass) &&
      (!text ||
        `${row.requestId} ${row.tenant} ${row.instance} ${row.sloClass}`.toLowerCase().includes(text)),
  );
}

/** Ties by id, so that nothing swaps places under the pointer. */
export function orderedRows(rows: readonly LiveRow[], order: Order): LiveRow[] {
  const by: Record<Order, (a: LiveRow, b: LiveRow) => number> = {
    age: (a, b) => a.arrivedAt - b.arrivedAt,
    blocks: (a, b) => b.blocks - a.blocks,
    tokens: (a, b) => b.promptTokens + b.outputTokens - (a.promptTokens + a.outputTokens),
    tenant: (a, b) => a.tenant.localeCompare(b.tenant),
  };
  return [...rows].sort((a, b) => by[order](a, b) || a.requestId.localeCompare(b.requestId));
}
