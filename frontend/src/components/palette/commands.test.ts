import { describe, expect, it } from "vitest";
import { instance } from "../../testing/builders";
import { commandsFor } from "./commands";

const known = {
  instances: [instance("i-3"), instance("i-4", { wanted_accepting: false })],
  tenants: ["acme"],
  mayAct: true,
};
const words = (text: string, changes = {}) =>
  commandsFor(text, { ...known, ...changes }).map((each) => each.words);

describe("the palette", () => {
  it("understands verbs and objects in any order", () => {
    expect(words("drain i-3")).toEqual(["Drain i-3…"]);
    expect(words("i-3 drain")).toEqual(["Drain i-3…"]);
    expect(words("acme class")).toEqual(["Set tenant acme to another class…"]);
  });

  it("offers to undrain what drains", () => {
    expect(words("i-4")).toContain("Undrain i-4…");
  });

  it("offers no act to those who may only look", () => {
    expect(words("i-3", { mayAct: false })).toEqual(["Open i-3"]);
  });

  it("opens an id that was pasted", () => {
    expect(words("cmpl-3f9a")).toEqual(["Open request cmpl-3f9a", "Open move cmpl-3f9a"]);
  });
});
