import { describe, expect, it } from "vitest";
import recording from "./fixtures/session.json";
import { freshness } from "./freshness";
import { pauseMs } from "./socket";
import { LiveStore } from "./store";
import type { DeltaFrame, SnapshotFrame } from "./types";

const frames = recording.frames as unknown as (SnapshotFrame | DeltaFrame)[];

function storeAt(clock: { now: number }) {
  return new LiveStore(() => clock.now);
}

describe("the live store", () => {
  it("lets the server's time run on between frames", () => {
    const clock = { now: 100 };
    const store = storeAt(clock);
    store.take(frames[0] as SnapshotFrame);
    clock.now = 103;
    store.togglePause();
    store.togglePause();
    const view = store.getView();
    expect(view.now - (frames[0]?.at ?? 0)).toBeCloseTo(3);
    expect(view.silentFor).toBe(3);
  });

  it("freezes what is shown while paused, and goes on with the latest afterwards", () => {
    const store = storeAt({ now: 0 });
    store.take(frames[0] as SnapshotFrame);
    store.togglePause();
    const frozen = store.getView().state;
    store.take(frames[1] as DeltaFrame);
    expect(store.getView().state).toBe(frozen);
    store.togglePause();
    expect(store.getView().state?.seq).toBe(frames[1]?.seq);
  });

  it("keeps the last state through a gap instead of showing half of one", () => {
    const store = storeAt({ now: 0 });
    store.take(frames[0] as SnapshotFrame);
    store.take(frames[5] as DeltaFrame);
    expect(store.getView().state?.seq).toBe(1);
  });
});

describe("coming back", () => {
  it("waits longer from try to try, up to a limit, and never all at once", () => {
    expect([1, 2, 3, 4].map((attempt) => pauseMs(attempt, 0))).toEqual([500, 1000, 2000, 4000]);
    expect(pauseMs(50, 0)).toBe(15_000);
    expect(pauseMs(50, 1)).toBe(18_000);
  });
});

describe("freshness", () => {
  it("is live below 3 s, late to 10 s, then stale; unknown before the first report", () => {
    const at = (age: number) => freshness(100 - age, 100).freshness;
    expect([at(0), at(2.9), at(3), at(9.9), at(10)]).toEqual(["live", "live", "late", "late", "stale"]);
    expect(freshness(null, 100)).toEqual({ freshness: "unknown", age: null });
  });
});
