import { describe, expect, it } from "vitest";
import { instance, liveState, move, NOW, sloClass } from "../testing/builders";
import { totals } from "./fleet";
import { problems } from "./problems";
import { situation } from "./situation";

const told = (state: ReturnType<typeof liveState>) => situation(state, [...state.instances.values()], NOW);

describe("the sentence of health", () => {
  it("says that all is well, with what is served", () => {
    const state = liveState({ instances: [instance("a", { running: 3 })], classes: [sloClass("standard")] });
    expect(told(state)).toMatchObject({
      level: "good",
      sentence: "1 instance serves 3 requests; every class is within its targets.",
    });
  });

  it("puts a hurt class before a full instance", () => {
    const state = liveState({
      instances: [instance("a", { used_blocks: 99 })],
      classes: [sloClass("standard", { ttft_attained: 0.941 })],
    });
    expect(told(state).sentence).toBe(
      "Standard is below its objective: 94.1\u202f% of requests start within 2\u202fs; 99\u202f% should.",
    );
    expect(told(state).suspect).toBe("a");
  });

  it("does not call a class hurt of which nothing finished", () => {
    const state = liveState({
      instances: [instance("a")],
      classes: [sloClass("standard", { ttft_attained: null, tpot_attained: null, requests: 0 })],
    });
    expect(told(state).level).toBe("good");
  });

  it("puts Redis before everything, and says what still works", () => {
    const state = liveState({
      instances: [instance("a", { heard_at: NOW - 47 })],
      degraded: {
        redis: {
          since: NOW - 47,
          error: "connection refused",
          attempts: 3,
          next_try_at: NOW + 4,
          gateways: null,
        },
      },
    });
    expect(told(state).sentence).toBe(
      "Redis has not answered for 47\u202fs. Requests are still served; live status and moves are on hold.",
    );
    expect(problems(state, [...state.instances.values()], NOW)).toEqual([]);
  });

  it("does not take an instance that still loads for a draining one", () => {
    const state = liveState({
      instances: [instance("a", { state: "starting", accepting: false, row_state: "starting" })],
    });
    expect(told(state).sentence).toBe("No instance serves yet; 1 is loading.");
  });

  it("tells loading from silence", () => {
    const loading = liveState({ instances: [instance("a", { heard_at: null, state: null })] });
    const silent = liveState({ instances: [instance("a", { heard_at: NOW - 60 })] });
    expect(told(loading)).toMatchObject({
      level: "unknown",
      sentence: "No instance serves yet; 1 is loading.",
    });
    expect(told(silent)).toMatchObject({
      level: "hurt",
      sentence: "No instance serves: the only one has stopped reporting.",
    });
  });

  it("names what moves, and where from", () => {
    const state = liveState({
      instances: [instance("a"), instance("b")],
      migrations: [move("m", { ended_at: null })],
    });
    expect(told(state).doing).toMatchObject({
      main: "Relieving a",
      detail: "1 request is moving, 500 tokens in all.",
    });
  });
});

describe("sums", () => {
  it("count no instance whose report is stale", () => {
    const sums = totals(
      [instance("a", { running: 3 }), instance("b", { running: 9, heard_at: NOW - 11 })],
      NOW,
    );
    expect(sums).toMatchObject({ instances: 2, fresh: 1, running: 3, freeTokens: 80 * 16 });
  });

  it("give the largest gap only where work is taken", () => {
    const sums = totals(
      [instance("a", { used_blocks: 90 }), instance("b", { wanted_accepting: false })],
      NOW,
    );
    expect(sums.largest).toEqual({ tokens: 10 * 16, instance: "a" });
  });
});

describe("problems", () => {
  const found = (state: ReturnType<typeof liveState>) =>
    problems(state, [...state.instances.values()], NOW).map((each) => each.title);

  it("start with the request that fits nowhere", () => {
    const state = liveState({
      instances: [
        instance("a", { used_blocks: 95, waiting: 1, head_of_line_blocks: 40 }),
        instance("b", { used_blocks: 80 }),
      ],
    });
    expect(found(state)[0]).toBe("A request of 640 tokens fits nowhere");
  });

  it("group silent instances into one", () => {
    const state = liveState({ instances: ["a", "b", "c"].map((id) => instance(id, { heard_at: NOW - 30 })) });
    expect(found(state).filter((title) => title.includes("report"))).toEqual([
      "3 instances do not report, a for 30\u202fs",
    ]);
  });

  it("include a loop that does not tick", () => {
    expect(found(liveState({ instances: [instance("a")], loop: null }))).toEqual([
      "The rebalancing loop has not reported",
    ]);
  });
});
