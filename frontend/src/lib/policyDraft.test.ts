import { describe, expect, it } from "vitest";
import { changedPaths, diffLines, flatten, valueAt, withValue } from "./policyDraft";

const config = {
  policy: "llumnix",
  dispatch: { watermark_share: 0.01, in_flight_accounting: null },
  queue: { rehome: true },
};

describe("a policy draft", () => {
  it("is a flat list of values by their paths", () => {
    expect(flatten(config).map(([path]) => path)).toEqual([
      "policy",
      "dispatch.watermark_share",
      "dispatch.in_flight_accounting",
      "queue.rehome",
    ]);
  });

  it("changes one value and leaves the original alone", () => {
    const draft = withValue(config, "dispatch.watermark_share", 0.05);
    expect(valueAt(draft, "dispatch.watermark_share")).toBe(0.05);
    expect(valueAt(config, "dispatch.watermark_share")).toBe(0.01);
    expect(changedPaths(config, draft)).toEqual(["dispatch.watermark_share"]);
  });

  it("shows what is out and what is in, with its group around it and nothing else", () => {
    const draft = withValue(config, "dispatch.watermark_share", 0.05);
    expect(diffLines(config, draft)).toEqual([
      { kind: "same", text: "dispatch:" },
      { kind: "out", text: "  watermark_share: 0.01" },
      { kind: "in", text: "  watermark_share: 0.05" },
      { kind: "same", text: "  in_flight_accounting: null" },
    ]);
    expect(diffLines(config, config)).toEqual([]);
  });
});
