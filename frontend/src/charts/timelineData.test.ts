import { describe, expect, it } from "vitest";
import { columnsOf, csvOf, steps } from "./timelineData";

describe("timelines", () => {
  it("turns points into columns and keeps gaps", () => {
    const columns = columnsOf({
      type: "history",
      of: "instance",
      id: "i-1",
      interval_s: 2,
      fields: ["at", "running", "preemptions_total"],
      points: [
        [1, 4, 7],
        [3, null, null],
        [5, 6, 9],
      ],
    });
    expect(columns.at).toEqual([1, 3, 5]);
    expect(columns.running).toEqual([4, null, 6]);
    expect(columns.preemptions).toEqual([null, null, null]);
  });

  it("counts what a counter gained, also when a new engine starts again", () => {
    expect(steps([7, 9, 9, 1])).toEqual([null, 2, 0, 1]);
  });

  it("leaves as text with a head, and with nothing where nothing is known", () => {
    expect(csvOf({ at: [1, 3], running: [4, null] })).toBe("at,running\n1,4\n3,\n");
  });
});
