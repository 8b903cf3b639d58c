// The live protocol (WebSocket /ws/v1/live) as console/dashboard/shapes.py writes it.
// Times are seconds of the server's clock; null is absent.

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

export type EventKind = "moving" | "good" | "stopped" | "risk" | "hurt" | "note";

export interface FeedEvent {
  id: number;
  at: number;
  kind: EventKind;
  text: string;
  link: string;
}

export interface Loop {
  leader: string;
  epoch: number;
  last_tick_at: number;
  tick_ms: number;
  interval_ms: number;
  problems: string[];
}

export interface Degraded {
  redis?: { since: number; error: string; attempts: number; next_try_at: number };
  database?: { since: number; error: string };
}

export interface Snapshot {
  instances: Instance[];
  gateways: Gateway[];
  classes: SloClass[];
  migrations: Migration[];
  events: FeedEvent[];
  loop: Loop | null;
  degraded: Degraded;
  tenants: string[];
}

type Ids = Partial<Record<"instances" | "gateways" | "classes" | "migrations", string[]>>;
type Heard = Partial<Record<"instances" | "gateways", Record<string, number>>>;

export interface SnapshotFrame {
  type: "snapshot";
  seq: number;
  at: number;
  state: Snapshot;
}

export interface DeltaFrame extends Partial<Snapshot> {
  type: "delta";
  seq: number;
  at: number;
  heard?: Heard;
  gone?: Ids;
}

export interface HistoryFrame {
  type: "history";
  of: "instance" | "class";
  id: string;
  interval_s: number;
  fields: string[];
  points: (number | null)[][];
}

export type Frame = SnapshotFrame | DeltaFrame | HistoryFrame;
