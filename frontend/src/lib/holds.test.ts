import { describe, expect, it } from "vitest";
import { instance, liveState, NOW, sloClass } from "../testing/builders";
import { holdOf, LOOP_SILENT_S, loopDownSince } from "./holds";
import { situation } from "./situation";

const ticked = (seconds: number, leader = "host:1") => ({
  leader,
  epoch: 1,
  last_tick_at: NOW - seconds,
  tick_ms: 3,
  interval_ms: 200,
  problems: [],
});
const down = liveState({ instances: [instance("a")], loop: ticked(47) });

describe("a loop that stopped", () => {
  it("is told once it is silent for longer than a change of leaders takes", () => {
    expect(loopDownSince(liveState({ loop: ticked(LOOP_SILENT_S - 1) }))).toBeUndefined();
    expect(loopDownSince(liveState({ loop: ticked(LOOP_SILENT_S) }))).toBe(NOW - LOOP_SILENT_S);
    expect(loopDownSince(liveState({ loop: ticked(1, "") }))).toBe(NOW - 1);
  });

  it("is not guessed by a page that lost the console, nor without Redis", () => {
    expect(loopDownSince({ ...liveState({ loop: ticked(47) }), at: NOW - 46 })).toBeUndefined();
    const redis = { since: NOW, error: "refused", attempts: 1, next_try_at: NOW, gateways: null };
    expect(loopDownSince(liveState({ loop: null, degraded: { redis } }))).toBeUndefined();
  });

  it("says since when, what works and what waits", () => {
    expect(holdOf(down, NOW)).toMatchObject({ part: "loop", since: NOW - 47, until: "until the loop ticks" });
    expect(situation(down, [instance("a")], NOW)).toMatchObject({
      level: "risk",
      sentence:
        "The rebalancing loop has not ticked for 47\u202fs. Requests are served; moves, drains and scaling are on hold.",
      where: { main: "The rebalancing loop" },
      doing: { main: "Nothing is planned" },
    });
  });

  it("stands behind a class that is hurt", () => {
    const hurt = { ...down, classes: new Map([["standard", sloClass("standard", { ttft_attained: 0.5 })]]) };
    expect(situation(hurt, [instance("a")], NOW).level).toBe("hurt");
  });
});

describe("one part hides those that depend on it", () => {
  it("Redis before the database before the loop", () => {
    const database = { since: NOW - 3, error: "locked" };
    const redis = { since: NOW - 5, error: "refused", attempts: 1, next_try_at: NOW, gateways: null };
    const of = (degraded: object) => holdOf(liveState({ loop: ticked(47), degraded }), NOW)?.part;
    expect([of({ redis, database }), of({ database }), of({})]).toEqual(["redis", "database", "loop"]);
    expect(holdOf(liveState({}), NOW)).toBeNull();
  });
});
