import { describe, expect, it } from "vitest";
import { instance, NOW } from "../testing/builders";
import { headroomEffect } from "./headroom";

const load = (running: number) => [{ slo_class: "interactive", running, waiting: 0, used_blocks: 10 }];
const fleet = [
  instance("a", { classes: load(2), used_blocks: 50 }),
  instance("b", { classes: load(0) }),
  instance("c", { classes: load(1), wanted_accepting: false }),
];

describe("what headroom does", () => {
  it("counts the instances that host the class and take work", () => {
    const effect = headroomEffect(fleet, "interactive", { target: 1200 }, { target: 1000 }, NOW);
    expect(effect.hosts.map((each) => each.id)).toEqual(["a"]);
    expect([effect.serving, effect.poolTokens]).toEqual([2, 3200]);
    expect([effect.keptNow, effect.keptDraft]).toEqual([400, 600]);
  });

  it("keeps no more than is free, and nothing without a target load", () => {
    expect(headroomEffect(fleet, "interactive", { target: 0 }, { target: null }, NOW)).toMatchObject({
      keptNow: 800,
      keptDraft: 0,
    });
  });
});
