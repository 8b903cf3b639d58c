// Who waits for memory: in front of the fleet, and on instances. Pure.

import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { freeTokens } from "./fleet";
import { count } from "./format";

export interface WaitingRequest {
  requestId: string;
  tenant: string;
  sloClass: string;
  /** `gateway` or the instance. */
  where: string;
  atInstance: boolean;
  position: number;
  since: number;
  neededTokens: number;
  why: string;
}

/** Next ones first: the fleet's queue in its order, then those that wait on an instance. */
export function waitingRequests(state: LiveState, instances: readonly Instance[]): WaitingRequest[] {
  const pools = new Set(instances.map((item) => item.pool));
  const inFront = state.queue
    .filter((waiter) => pools.size === 0 || pools.has(waiter.pool))
    .map((waiter) => ({
      requestId: waiter.request_id,
      tenant: waiter.tenant,
      sloClass: waiter.slo_class,
      where: waiter.gateway,
      atInstance: false,
      position: waiter.position,
      since: waiter.since,
      neededTokens: waiter.needed_tokens,
      why: waiter.why,
    }));
  return [...inFront, ...instances.flatMap((instance) => waitingOn(state, instance))];
}

function waitingOn(state: LiveState, instance: Instance): WaitingRequest[] {
  const block = instance.block_size_tokens ?? 1;
  return (state.residents.get(instance.id)?.requests ?? [])
    .filter((request) => request.state === "waiting" || request.state === "preempted")
    .sort((a, b) => a.arrived_at - b.arrived_at)
    .map((request, index) => {
      const needed = Math.ceil((request.prompt_tokens + request.output_tokens) / block) * block;
      return {
        requestId: request.request_id,
        tenant: request.tenant,
        sloClass: request.slo_class,
        where: instance.id,
        atInstance: true,
        position: index + 1,
        since: request.arrived_at,
        neededTokens: needed,
        why: whyOn(instance, request.state, needed, index),
      };
    });
}

function whyOn(instance: Instance, state: string, needed: number, ahead: number): string {
  const free = freeTokens(instance) ?? 0;
  const lost = state === "preempted" ? "pre-empted, recomputes; " : "";
  if (ahead > 0) return `${lost}behind ${count(ahead)} on ${instance.id}`;
  if (free < needed) return `${lost}${instance.id} has ${count(free)} tokens free`;
  return `${lost}first in line on ${instance.id}`;
}
