import { describe, expect, it } from "vitest";
import { instance, liveState, NOW } from "../testing/builders";
import { filtered, liveRows, orderedRows } from "./requestRows";

const request = (id: string, changes = {}) => ({
  engine_id: `${id}#1`,
  request_id: id,
  tenant: "acme",
  slo_class: "standard",
  state: "running",
  prompt_tokens: 100,
  output_tokens: 10,
  blocks: 7,
  arrived_at: NOW - 5,
  migration_id: "",
  ...changes,
});

const instances = [instance("i-1", { waiting: 1 })];
const state = liveState({
  instances,
  residents: [
    {
      id: "i-1",
      heard_at: NOW,
      requests: [
        request("b", { blocks: 9, migration_id: "m" }),
        request("a", { output_tokens: 0 }),
        request("w", { state: "waiting", blocks: 0 }),
        request("x", { state: "arriving" }),
      ],
    },
  ],
  queue: [
    {
      gateway: "g",
      pool: "main",
      request_id: "q",
      tenant: "globex",
      slo_class: "batch",
      prompt_tokens: 900,
      generated_tokens: 0,
      needed_tokens: 912,
      since: NOW - 9,
      position: 1,
      why: "no room",
      recovering: false,
    },
  ],
});
const none = { text: "", state: "", instance: "", tenant: "", sloClass: "" };
const ids = (rows: { requestId: string }[]) => rows.map((row) => row.requestId).join("");

describe("the live list of requests", () => {
  const rows = liveRows(state, instances);

  it("has those in front of the fleet and those on instances, but none twice", () => {
    expect(rows.map((row) => [row.requestId, row.state])).toEqual([
      ["q", "queued"],
      ["b", "decoding"],
      ["a", "prefilling"],
      ["w", "waiting"],
    ]);
    expect(rows[0]?.why).toBe("no room");
    expect(rows[3]?.why).toContain("i-1");
  });

  it("is narrowed by what the URL says", () => {
    expect(ids(filtered(rows, { ...none, state: "waiting" }))).toBe("qw");
    expect(ids(filtered(rows, { ...none, state: "moving" }))).toBe("b");
    expect(ids(filtered(rows, { ...none, tenant: "globex" }))).toBe("q");
    expect(ids(filtered(rows, { ...none, instance: "i-1", text: "A" }))).toBe("baw");
  });

  it("keeps equal rows in one order", () => {
    expect(ids(orderedRows(rows, "age"))).toBe("qabw");
    expect(ids(orderedRows(rows, "blocks"))).toBe("baqw");
  });
});
