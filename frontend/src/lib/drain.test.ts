import { describe, expect, it } from "vitest";
import { instance, liveState, move, NOW } from "../testing/builders";
import { copyRate, drainImpact } from "./drain";

describe("what a drain means", () => {
  const leaving = instance("a", { used_blocks: 50, running: 4, waiting: 2 });

  it("compares what it holds with the room of those that take work", () => {
    const state = liveState({
      instances: [
        leaving,
        instance("b", { used_blocks: 60 }),
        instance("silent", { heard_at: NOW - 20 }),
        instance("draining", { wanted_accepting: false }),
        instance("elsewhere", { pool: "other" }),
      ],
    });
    const impact = drainImpact(state, leaving, NOW);
    expect(impact).toMatchObject({
      running: 4,
      waiting: 2,
      usedTokens: 800,
      freeElsewhere: 640,
      fits: false,
      aboutMs: null,
    });
    expect(impact.others.map((other) => other.id)).toEqual(["b"]);
  });

  it("estimates the time from the copy rate of recent moves only", () => {
    const stages = [{ stage: 0, blocks: 10, bytes: 4_000_000, duration_ms: 500, tokens_meanwhile: 3 }];
    const state = liveState({ instances: [leaving, instance("b")], migrations: [move("m", { stages })] });
    expect(copyRate(state)).toBe(8_000_000);
    expect(drainImpact(state, leaving, NOW).aboutMs).toBe((800 * 1000 * 1000) / 8_000_000);
  });
});
