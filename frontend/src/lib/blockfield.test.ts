import { describe, expect, it } from "vitest";
import { fieldCells, fieldShape, type Owner, outline, spansOf } from "./blockfield";

const request = (id: string, blocks: number, state = "running"): Owner => ({
  request_id: id,
  engine_id: `${id}#1`,
  tenant: id,
  slo_class: "standard",
  state,
  blocks,
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
      { used_blocks: 6, reserved_blocks: 1, headroom_blocks: 1 },
    );
    expect(cells.map((cell) => (cell.kind === "request" ? cell.tenant || "?" : cell.kind))).toEqual([
      "a",
      "a",
      "a",
      "b",
      "b",
      "?",
      "arriving",
      "headroom",
      "free",
      "free",
    ]);
  });

  it("knows which squares are whose, and cuts what cannot be", () => {
    const shape = fieldShape(10, 480, 252);
    const memory = { used_blocks: 6, reserved_blocks: 0, headroom_blocks: 0 };
    const spans = spansOf(shape, [request("a", 3), request("waits", 4, "waiting"), request("b", 9)], memory);
    expect(spans.map(({ place, first, end }) => [place, first, end])).toEqual([
      [1, 0, 3],
      [3, 3, 6],
    ]);
  });

  it("draws an outline round squares in one column, and with a step over several", () => {
    const shape = { rows: 4, columns: 3, pitch: 10, cells: 12, blocksPerCell: 1 };
    expect(outline(shape, 1, 3)).toBe("M-0.5 9.5H9.5V29.5H-0.5Z");
    expect(outline(shape, 2, 9)).toBe("M-0.5 19.5H9.5V-0.5H29.5V9.5H19.5V39.5H-0.5Z");
  });
});
