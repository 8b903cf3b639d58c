import { describe, expect, it } from "vitest";
import { move, NOW } from "../testing/builders";
import { outcomeOf, ruleWords, splitStages, stopLong, stopShort } from "./words";

const stopped = (reason: string) => move("m", { state: "aborted", reason, ended_at: NOW });

describe("why a move stopped", () => {
  it("is a sentence that says where the request is now", () => {
    expect(stopLong(stopped("finished"))).toBe("Stopped: the request finished on a before the copy ended.");
    expect(stopLong(stopped("no_room"))).toBe("Stopped: b had no memory for it; it goes on at a.");
    expect(stopLong(stopped("preempted"))).toBe("Stopped: the request was preempted on a; it waits there.");
  });

  it("keeps the agent's own words where none fits", () => {
    expect(stopShort(stopped("solar flare"))).toBe("solar flare");
    expect(stopLong(stopped("solar flare"))).toBe("Stopped: solar flare. It goes on at a.");
  });

  it("sets a time-out apart, since it is a risk and not a choice", () => {
    expect(outcomeOf(stopped("timeout in stage 0"))).toBe("late");
    expect(outcomeOf(stopped("finished"))).toBe("stopped");
    expect(outcomeOf(move("m", { state: "in_doubt" }))).toBe("doubt");
  });
});

describe("stages", () => {
  const stage = (number: number, ms: number) => ({
    stage: number,
    blocks: 3,
    bytes: 9,
    duration_ms: ms,
    tokens_meanwhile: 0,
  });

  it("set the hand-over apart once the move is done", () => {
    const done = move("m", {
      state: "done",
      ended_at: NOW,
      downtime_ms: 23.4,
      stages: [stage(0, 400), stage(1, 23.4)],
    });
    expect(splitStages(done)).toEqual({ copies: [stage(0, 400)], handOver: stage(1, 23.4) });
  });

  it("are all copies while it runs", () => {
    const running = move("m", { stages: [stage(0, 400)] });
    expect(splitStages(running)).toEqual({ copies: [stage(0, 400)], handOver: null });
  });
});

describe("why a request moves", () => {
  it("names the person for a manual move and the instance for a drain", () => {
    expect(ruleWords(move("m", { rule: "manual", actor: "olga" }))).toBe("by hand, olga");
    expect(ruleWords(move("m", { rule: "manual", actor: "system:loop" }))).toBe("by hand");
    expect(ruleWords(move("m", { rule: "drain" }))).toBe("drain of a");
  });
});
