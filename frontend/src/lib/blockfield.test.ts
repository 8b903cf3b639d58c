import { describe, expect, it } from "vitest";
import type { LiveRequest } from "../api/types";
import { fieldCells, fieldShape } from "./blockfield";

const request = (id: string, blocks: number, state = "running"): LiveRequest => ({
  request_id: id,
  engine_id: `${id}#1`,
  tenant: id,
  slo_class: "standard",
  state,
  prompt_tokens: 0,
  output_tokens: 0,
  blocks,
  arrived_at: "2026-01-01T00:00:00Z",
  migration_id: "",
});

describe("memory field", () => {
  it("has a square for every block, inside the box", () => {
    for (const blocks of [1, 64, 851, 1_500]) {
      const shape = fieldShape(blocks, 480, 252);
      expect(shape.rows * shape.columns).toBeGreaterThanOrEqual(blocks);
      expect(shape.columns * shape.pitch).toBeLessThanOrEqual(480.001);
      expect(shape.rows * shape.pitch).toBeLessThanOrEqual(252.001);
    }
  });

  it("lets one square stand for several blocks of a large instance", () => {
    expect(fieldShape(20_000, 480, 252).blocksPerCell).toBe(14);
  });

  it("shows owners in order, then what arrives, then what is free", () => {
    const cells = fieldCells(
      fieldShape(10, 480, 252),
      [request("a", 3), request("b", 2), request("waits", 4, "waiting")],
      { used_blocks: 6, reserved_blocks: 1 },
    );
    expect(cells.map((cell) => (cell.kind === "request" ? cell.tenant || "?" : cell.kind))).toEqual([
      "a",
      "a",
      "a",
      "b",
      "b",
      "?",
      "arriving",
      "free",
      "free",
      "free",
    ]);
  });
});
