// Pure: (state, frame) -> state. The invariant, tested against frames of the real hub:
// snapshot + deltas = a fresh snapshot.

import type {
  DeltaFrame,
  FeedEvent,
  Gateway,
  Instance,
  Migration,
  News,
  Resident,
  SloClass,
  Snapshot,
  SnapshotFrame,
} from "./types";

const KEPT_EVENTS = 50;

export interface LiveState {
  seq: number;
  /** Server time of the last frame. */
  at: number;
  instances: ReadonlyMap<string, Instance>;
  gateways: ReadonlyMap<string, Gateway>;
  classes: ReadonlyMap<string, SloClass>;
  migrations: ReadonlyMap<string, Migration>;
  /** Who holds the memory, per instance; empty while nobody subscribed to it. */
  residents: ReadonlyMap<string, Resident>;
  events: readonly FeedEvent[];
  news: readonly News[];
  loop: Snapshot["loop"];
  degraded: Snapshot["degraded"];
  tenants: readonly string[];
  /** Requests in front of the fleet, next ones first. */
  queue: Snapshot["queue"];
  /** Alerts that fire now, worst first. */
  firing: Snapshot["firing"];
}

/** What to do with a frame: take its state, or ask for a snapshot because frames are missing. */
export type Step = { kind: "state"; state: LiveState } | { kind: "gap" };

export function reduce(state: LiveState | null, frame: SnapshotFrame | DeltaFrame): Step {
  if (frame.type === "snapshot") return { kind: "state", state: fromSnapshot(frame) };
  if (state === null || frame.seq !== state.seq + 1) return { kind: "gap" };
  return { kind: "state", state: applyDelta(state, frame) };
}

function fromSnapshot(frame: SnapshotFrame): LiveState {
  const { state } = frame;
  return {
    seq: frame.seq,
    at: frame.at,
    instances: byKey(state.instances, (item) => item.id),
    gateways: byKey(state.gateways, (item) => item.id),
    classes: byKey(state.classes, (item) => item.name),
    migrations: byKey(state.migrations, (item) => item.id),
    residents: byKey(state.residents ?? [], (item) => item.id),
    events: state.events,
    news: state.news,
    loop: state.loop,
    degraded: state.degraded,
    tenants: state.tenants,
    queue: state.queue,
    firing: state.firing,
  };
}

function applyDelta(state: LiveState, frame: DeltaFrame): LiveState {
  return {
    seq: frame.seq,
    at: frame.at,
    instances: heard(
      merge(state.instances, frame.instances, (item) => item.id, frame.gone?.instances),
      frame.heard?.instances,
    ),
    gateways: heard(
      merge(state.gateways, frame.gateways, (item) => item.id, frame.gone?.gateways),
      frame.heard?.gateways,
    ),
    classes: merge(state.classes, frame.classes, (item) => item.name, frame.gone?.classes),
    migrations: merge(state.migrations, frame.migrations, (item) => item.id, frame.gone?.migrations),
    residents: heard(
      merge(state.residents, frame.residents, (item) => item.id, frame.gone?.residents),
      frame.heard?.residents,
    ),
    events: append(state.events, frame.events),
    news: append(state.news, frame.news),
    loop: frame.loop === undefined ? state.loop : frame.loop,
    degraded: frame.degraded ?? state.degraded,
    tenants: frame.tenants ?? state.tenants,
    queue: frame.queue ?? state.queue,
    firing: frame.firing ?? state.firing,
  };
}

function byKey<T>(items: readonly T[], key: (item: T) => string): Map<string, T> {
  return new Map(items.map((item) => [key(item), item]));
}

function merge<T, C extends Partial<T>>(
  known: ReadonlyMap<string, T>,
  changed: readonly C[] | undefined,
  key: (item: C) => string,
  gone: readonly string[] | undefined,
): ReadonlyMap<string, T> {
  if (!changed && !gone) return known;
  const next = new Map(known);
  for (const id of gone ?? []) next.delete(id);
  // Of what is known already, only the fields that changed are sent.
  for (const item of changed ?? []) next.set(key(item), { ...next.get(key(item)), ...item } as unknown as T);
  return next;
}

function heard<T extends { heard_at: number | null }>(
  known: ReadonlyMap<string, T>,
  times: Record<string, number> | undefined,
): ReadonlyMap<string, T> {
  if (!times) return known;
  const next = new Map(known);
  for (const [id, at] of Object.entries(times)) {
    const item = next.get(id);
    if (item) next.set(id, { ...item, heard_at: at });
  }
  return next;
}

function append<T>(known: readonly T[], fresh: readonly T[] | undefined): readonly T[] {
  return fresh ? [...known, ...fresh].slice(-KEPT_EVENTS) : known;
}
