// Generated from console/dashboard/protocol.py and controlplane/events/schema.py.
// Do not edit: run `python -m console.dashboard.typescript`.

export type EventKind = "moving" | "good" | "stopped" | "risk" | "hurt" | "note";

export type Topic = "requests";

export interface ClassLoad {
  slo_class: string;
  running: number;
  waiting: number;
  used_blocks: number;
}

export interface Instance {
  id: string;
  heard_at: number | null;
  pool: string;
  row_state: string | null;
  wanted_accepting: boolean | null;
  cause: string;
  changed_at: number | null;
  served_model: string;
  engine: string;
  state: string | null;
  accepting: boolean | null;
  incarnation: string | null;
  engine_version: string | null;
  host: string | null;
  pid: number | null;
  block_size_tokens: number | null;
  total_blocks: number | null;
  used_blocks: number | null;
  reserved_blocks: number | null;
  headroom_blocks: number | null;
  running: number | null;
  waiting: number | null;
  classes: ClassLoad[];
  head_of_line_blocks: number | null;
  queued_blocks: number | null;
  preempted_waiting: number | null;
  preemptions_total: number | null;
  step_ms: number | null;
  tokens_per_s: number | null;
  freeness: number | null;
  migrations_in: number | null;
  migrations_out: number | null;
  migration_slots: number | null;
  kv_bytes_per_token: number | null;
  lease_epoch: number | null;
}

export interface Gateway {
  id: string;
  incarnation: string;
  pool: string;
  url: string;
  open_streams: number;
  queued: number;
  heard_at: number;
}

export interface Waiter {
  gateway: string;
  pool: string;
  request_id: string;
  tenant: string;
  slo_class: string;
  prompt_tokens: number;
  generated_tokens: number;
  needed_tokens: number;
  since: number;
  position: number;
  why: string;
  recovering: boolean;
}

export interface SloClass {
  name: string;
  rank: number;
  ttft_target_ms: number | null;
  tpot_target_ms: number | null;
  target_load_tokens: number | null;
  objective: number;
  requests: number | null;
  open: number | null;
  ttft_p50_ms: number | null;
  ttft_p99_ms: number | null;
  tpot_p50_ms: number | null;
  tpot_p99_ms: number | null;
  ttft_attained: number | null;
  tpot_attained: number | null;
}

export interface Stage {
  stage: number;
  blocks: number;
  bytes: number;
  duration_ms: number;
  tokens_meanwhile: number;
}

export interface Migration {
  id: string;
  request_id: string;
  source: string;
  destination: string;
  rule: string;
  why: string;
  slo_class: string;
  tenant: string;
  state: string;
  reason: string;
  stages: Stage[];
  downtime_ms: number | null;
  tokens_at_start: number | null;
  tokens_moved: number | null;
  started_at: number;
  updated_at: number;
  ended_at: number | null;
  actor: string;
}

export interface LiveRequest {
  engine_id: string;
  request_id: string;
  tenant: string;
  slo_class: string;
  state: string;
  prompt_tokens: number;
  output_tokens: number;
  blocks: number;
  arrived_at: number;
  migration_id: string;
}

export interface Resident {
  id: string;
  heard_at: number;
  requests: LiveRequest[];
}

export interface FeedEvent {
  id: number;
  at: number;
  kind: "moving" | "good" | "stopped" | "risk" | "hurt" | "note";
  text: string;
  link: string;
}

export interface News {
  id: number;
  event: ControlEvent;
}

export interface Loop {
  leader: string;
  epoch: number;
  last_tick_at: number;
  tick_ms: number;
  interval_ms: number;
  problems: string[];
}

export interface GatewaysAsked {
  asked: number;
  answered: number;
  at: number;
}

export interface RedisAway {
  since: number;
  error: string;
  attempts: number;
  next_try_at: number;
  gateways: GatewaysAsked | null;
}

export interface DatabaseAway {
  since: number;
  error: string;
}

export interface Degraded {
  redis?: RedisAway;
  database?: DatabaseAway;
}

export interface Snapshot {
  instances: Instance[];
  gateways: Gateway[];
  classes: SloClass[];
  migrations: Migration[];
  residents?: Resident[];
  events: FeedEvent[];
  news: News[];
  loop: Loop | null;
  degraded: Degraded;
  tenants: string[];
  queue: Waiter[];
  firing: Firing[];
}

export interface Firing {
  id: number;
  rule: string;
  severity: string;
  subject: string;
  text: string;
  since: number;
  acknowledged_by: string;
}

export interface SnapshotFrame {
  type: "snapshot";
  seq: number;
  at: number;
  topics: "requests"[];
  state: Snapshot;
}

export interface HistoryFrame {
  type: "history";
  of: "instance" | "class";
  id: string;
  interval_s: number;
  fields: string[];
  points: ((number | null)[])[];
}

export interface MigrationChanged {
  type: "migration";
  at_s: number;
  migration_id: string;
  request_id: string;
  source_id: string;
  destination_id: string;
  rule: string;
  why: string;
  state: string;
  reason: string;
  slo_class: string;
  tenant: string;
  downtime_ms: number | null;
  actor: string;
}

export interface InstanceChanged {
  type: "instance";
  at_s: number;
  instance_id: string;
  state: string;
  previous: string;
  actor: string;
  reason: string;
}

export interface PoolScaled {
  type: "pool";
  at_s: number;
  pool: string;
  action: string;
  target: number;
  previous: number;
  actor: string;
  reason: string;
  problem: string;
}

export interface TenantClassChanged {
  type: "tenant_class";
  at_s: number;
  tenant: string;
  slo_class: string;
  previous: string;
  actor: string;
  reason: string;
  apply_to_running: boolean;
}

export interface TenancyChanged {
  type: "tenancy";
  at_s: number;
  kind: string;
  name: string;
  tenant: string;
  action: string;
  actor: string;
}

export interface LoopChanged {
  type: "loop";
  at_s: number;
  leader: string;
  lease_epoch: number;
  reason: string;
}

export interface RoundPlanned {
  type: "round";
  at_s: number;
  round_id: number;
  policy: string;
  decisions: number;
  summary: string;
}

export interface PolicyChanged {
  type: "policy";
  at_s: number;
  pool: string;
  version: number;
  policy: string;
  previous: number | null;
  actor: string;
  reason: string;
}

export interface WhatIfChanged {
  type: "what_if";
  at_s: number;
  job_id: number;
  state: string;
  problem: string;
  actor: string;
}

export interface AuditAdded {
  type: "audit";
  at_s: number;
  entry_id: number;
  actor: string;
  action: string;
  object_type: string;
  object_id: string;
  reason: string;
}

export interface AlertChanged {
  type: "alert";
  at_s: number;
  alert_id: number;
  rule: string;
  subject: string;
  severity: string;
  state: string;
  summary: string;
  acknowledged_by: string;
  actor: string;
}

export type ControlEvent = MigrationChanged | InstanceChanged | PoolScaled | TenantClassChanged | TenancyChanged | LoopChanged | RoundPlanned | PolicyChanged | WhatIfChanged | AuditAdded | AlertChanged;
