// Plain values for tests of the pure parts.

import type { LiveState } from "../live/reducer";
import type { Instance, Loop, Migration, SloClass, Snapshot } from "../live/types";

export const NOW = 1_800_000_000;

export function instance(id: string, changes: Partial<Instance> = {}): Instance {
  return {
    id,
    heard_at: NOW - 0.4,
    pool: "main",
    row_state: "ready",
    wanted_accepting: true,
    cause: "",
    changed_at: NOW - 100,
    served_model: "tiny",
    engine: "vllm",
    state: "ready",
    accepting: true,
    incarnation: "x",
    engine_version: "1",
    host: "host",
    pid: 1,
    block_size_tokens: 16,
    total_blocks: 100,
    used_blocks: 20,
    reserved_blocks: 0,
    headroom_blocks: 0,
    running: 0,
    waiting: 0,
    classes: [],
    head_of_line_blocks: 0,
    queued_blocks: 0,
    preempted_waiting: 0,
    preemptions_total: 0,
    step_ms: 20,
    tokens_per_s: 0,
    freeness: 80,
    migrations_in: 0,
    migrations_out: 0,
    migration_slots: 2,
    kv_bytes_per_token: 1000,
    lease_epoch: 1,
    ...changes,
  };
}

export function sloClass(name: string, changes: Partial<SloClass> = {}): SloClass {
  return {
    name,
    rank: 1,
    ttft_target_ms: 2000,
    tpot_target_ms: 80,
    target_load_tokens: null,
    objective: 0.99,
    requests: 100,
    open: 1,
    ttft_p50_ms: 100,
    ttft_p99_ms: 900,
    tpot_p50_ms: 20,
    tpot_p99_ms: 30,
    ttft_attained: 1,
    tpot_attained: 1,
    ...changes,
  };
}

export function move(id: string, changes: Partial<Migration> = {}): Migration {
  return {
    id,
    request_id: "r-1",
    source: "a",
    destination: "b",
    rule: "load",
    why: "",
    slo_class: "standard",
    tenant: "acme",
    state: "copying",
    reason: "",
    stages: [],
    downtime_ms: null,
    tokens_at_start: 500,
    tokens_moved: null,
    started_at: NOW - 2,
    updated_at: NOW - 1,
    ended_at: null,
    actor: "",
    ...changes,
  };
}

const LOOP: Loop = {
  leader: "host:1",
  epoch: 1,
  last_tick_at: NOW - 0.1,
  tick_ms: 3,
  interval_ms: 200,
  problems: [],
};

export function liveState(changes: Partial<Snapshot> = {}): LiveState {
  return {
    seq: 1,
    at: NOW,
    instances: new Map((changes.instances ?? []).map((item) => [item.id, item])),
    gateways: new Map((changes.gateways ?? []).map((item) => [item.id, item])),
    classes: new Map((changes.classes ?? []).map((item) => [item.name, item])),
    migrations: new Map((changes.migrations ?? []).map((item) => [item.id, item])),
    residents: new Map((changes.residents ?? []).map((item) => [item.id, item])),
    events: changes.events ?? [],
    news: changes.news ?? [],
    loop: changes.loop === undefined ? LOOP : changes.loop,
    degraded: changes.degraded ?? {},
    tenants: changes.tenants ?? ["acme"],
    queue: changes.queue ?? [],
    firing: changes.firing ?? [],
  };
}
