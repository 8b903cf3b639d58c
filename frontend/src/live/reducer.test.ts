import { describe, expect, it } from "vitest";
import recording from "./fixtures/session.json";
import { type LiveState, reduce } from "./reducer";
import type { DeltaFrame, SnapshotFrame } from "./types";

// Frames of the real hub, recorded by tests/console/live_session.py; a test there fails when they drift.
const frames = recording.frames as unknown as (SnapshotFrame | DeltaFrame)[];
const fresh = recording.fresh as unknown as SnapshotFrame;

function play(some: (SnapshotFrame | DeltaFrame)[], start: LiveState | null = null): LiveState {
  let state = start;
  for (const frame of some) {
    const step = reduce(state, frame);
    if (step.kind === "gap") throw new Error(`gap at ${frame.seq}`);
    state = step.state;
  }
  if (state === null) throw new Error("no frames");
  return state;
}

/** Plain data, collections in one order, without what belongs to the connection. */
function plain(state: LiveState) {
  const sorted = <T>(items: ReadonlyMap<string, T>) =>
    Object.fromEntries([...items].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    ...state,
    seq: 0,
    at: 0,
    instances: sorted(state.instances),
    gateways: sorted(state.gateways),
    classes: sorted(state.classes),
    migrations: sorted(state.migrations),
    residents: sorted(state.residents),
  };
}

describe("the live reducer", () => {
  it("reaches by deltas what a fresh snapshot holds", () => {
    expect(frames[0]?.type).toBe("snapshot");
    expect(frames.slice(1).every((frame) => frame.type === "delta")).toBe(true);
    expect(plain(play(frames))).toEqual(plain(play([fresh])));
  });

  it("has seen every kind of change in that session", () => {
    const deltas = frames.slice(1) as DeltaFrame[];
    const kinds = [
      "instances",
      "gateways",
      "classes",
      "migrations",
      "events",
      "news",
      "residents",
      "loop",
      "degraded",
      "tenants",
      "gone",
      "heard",
    ] as const;
    for (const kind of kinds)
      expect(
        deltas.some((frame) => frame[kind] !== undefined),
        kind,
      ).toBe(true);
    expect(deltas.some((frame) => frame.gone?.migrations)).toBe(true);
    expect(deltas.some((frame) => frame.gone?.instances)).toBe(true);
  });

  it("asks for a snapshot when a frame is missing, repeated, or comes first", () => {
    const state = play(frames.slice(0, 3));
    expect(reduce(state, frames[4] as DeltaFrame).kind).toBe("gap");
    expect(reduce(state, frames[2] as DeltaFrame).kind).toBe("gap");
    expect(reduce(null, frames[1] as DeltaFrame).kind).toBe("gap");
    expect(reduce(state, fresh).kind).toBe("state");
  });

  it("leaves the state before untouched", () => {
    const before = play(frames.slice(0, 5));
    const copy = structuredClone(plain(before));
    play(frames.slice(5), before);
    expect(plain(before)).toEqual(copy);
  });
});
