// Geometry of the memory field. Pure: sizes in, squares out.

import type { Instance, LiveRequest } from "../live/types";

/** What the field needs of a request. */
export type Owner = Pick<
  LiveRequest,
  "engine_id" | "request_id" | "tenant" | "slo_class" | "state" | "blocks" | "migration_id"
>;

export interface FieldShape {
  rows: number;
  columns: number;
  /** Distance from square to square, px. */
  pitch: number;
  cells: number;
  blocksPerCell: number;
}

const MAX_CELLS = 1_500;
const MAX_PITCH_PX = 46;

/** The largest squares with which `blocks` fit into the box; beyond 1,500 a square stands for several blocks. */
export function fieldShape(blocks: number, width: number, height: number): FieldShape {
  const blocksPerCell = Math.max(1, Math.ceil(blocks / MAX_CELLS));
  const cells = Math.ceil(blocks / blocksPerCell);
  let best = { rows: 1, columns: Math.max(1, cells), pitch: 0 };
  for (let rows = 1; rows <= Math.max(1, cells); rows += 1) {
    const columns = Math.max(1, Math.ceil(cells / rows));
    const pitch = Math.min(MAX_PITCH_PX, width / columns, height / rows);
    if (pitch > best.pitch) best = { rows, columns, pitch };
  }
  return { ...best, cells, blocksPerCell };
}

interface Square {
  x: number;
  y: number;
  size: number;
  column: number;
  row: number;
}

export type Cell =
  | (Square & { kind: "free" })
  | (Square & { kind: "arriving" })
  | (Square & { kind: "headroom" })
  | (Square & { kind: "request"; tenant: string; sloClass: string });

/** The cells of one request: from `first` up to, not including, `end`. */
export interface Span {
  owner: Owner;
  /** Place in the list of requests, from 1. */
  place: number;
  first: number;
  end: number;
}

type Memory = Pick<Instance, "used_blocks" | "reserved_blocks" | "headroom_blocks">;

const HOLDING = new Set(["running", "frozen"]);

/** Which cells each request holds, in the order given; what does not fit into the used part is cut. */
export function spansOf(shape: FieldShape, requests: readonly Owner[], instance: Memory): Span[] {
  const used = Math.round((instance.used_blocks ?? 0) / shape.blocksPerCell);
  const spans: Span[] = [];
  let until = 0;
  requests.forEach((owner, index) => {
    if (!HOLDING.has(owner.state) || owner.blocks === 0) return;
    const first = Math.round(until);
    until += owner.blocks / shape.blocksPerCell;
    const end = Math.min(used, Math.round(until));
    if (end > first) spans.push({ owner, place: index + 1, first, end });
  });
  return spans;
}

/** Squares column by column: requests in the order given, what is used beyond them, arriving, headroom, free. */
export function fieldCells(shape: FieldShape, requests: readonly Owner[], instance: Memory): Cell[] {
  const used = Math.round((instance.used_blocks ?? 0) / shape.blocksPerCell);
  const arriving = used + Math.round((instance.reserved_blocks ?? 0) / shape.blocksPerCell);
  const headroom = arriving + Math.round((instance.headroom_blocks ?? 0) / shape.blocksPerCell);
  const owners = new Map<number, Owner>();
  for (const span of spansOf(shape, requests, instance)) {
    for (let index = span.first; index < span.end; index += 1) owners.set(index, span.owner);
  }
  return Array.from({ length: shape.cells }, (_, index): Cell => {
    const square = squareAt(shape, index);
    if (index < used) {
      const mine = owners.get(index);
      return {
        ...square,
        kind: "request",
        tenant: mine?.tenant ?? "",
        sloClass: mine?.slo_class ?? "standard",
      };
    }
    return {
      ...square,
      kind: index < arriving ? "arriving" : index < headroom ? "headroom" : "free",
    };
  });
}

export function squareAt(shape: FieldShape, index: number): Square {
  const column = Math.floor(index / shape.rows);
  const row = index % shape.rows;
  const { pitch } = shape;
  const gap = pitch >= 6 ? 2 : 1;
  const x = Math.round(column * pitch);
  const y = Math.round(row * pitch);
  return { x, y, size: Math.max(1, Math.floor(pitch) - gap), column, row };
}

/** The outline of a span as an SVG path: down its columns, with a step at either end. */
export function outline(shape: FieldShape, first: number, end: number): string {
  const { rows, pitch } = shape;
  const at = (cell: number) => Math.round(cell * pitch) - 0.5;
  const last = end - 1;
  const [c0, r0, c1, r1] = [Math.floor(first / rows), first % rows, Math.floor(last / rows), last % rows];
  if (c0 === c1) return box(at(c0), at(r0), at(c0 + 1), at(r1 + 1));
  const [top, foot] = [at(0), at(rows)];
  return [
    `M${at(c0)} ${at(r0)}`,
    `H${at(c0 + 1)}V${top}`,
    `H${at(c1 + 1)}V${at(r1 + 1)}`,
    `H${at(c1)}V${foot}`,
    `H${at(c0)}Z`,
  ].join("");
}

function box(x0: number, y0: number, x1: number, y1: number): string {
  return `M${x0} ${y0}H${x1}V${y1}H${x0}Z`;
}
