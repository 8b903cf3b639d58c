// Geometry of the memory field. Pure: sizes in, squares out.

import type { LiveRequest } from "../api/types";
import type { Instance } from "../live/types";

export interface FieldShape {
  rows: number;
  columns: number;
  cell: number;
  gap: number;
  cells: number;
  blocksPerCell: number;
}

const MAX_CELLS = 1_500;
const MAX_CELL_PX = 22;

/** The largest squares with which `blocks` fit into the box; beyond 1,500 a square stands for several blocks. */
export function fieldShape(blocks: number, width: number, height: number): FieldShape {
  const blocksPerCell = Math.max(1, Math.ceil(blocks / MAX_CELLS));
  const cells = Math.ceil(blocks / blocksPerCell);
  let pitch = Math.min(MAX_CELL_PX, Math.floor(Math.sqrt((width * height) / Math.max(1, cells))));
  pitch = Math.max(3, pitch);
  while (pitch > 3 && Math.floor(width / pitch) * Math.floor(height / pitch) < cells) pitch -= 1;
  const rows = Math.max(1, Math.floor(height / pitch));
  const gap = pitch >= 6 ? 2 : 1;
  return { rows, columns: Math.ceil(cells / rows), cell: pitch - gap, gap, cells, blocksPerCell };
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
  | (Square & { kind: "request"; tenant: string; sloClass: string });

/** Squares column by column: requests in the order given, what is used beyond them, arriving, free. */
export function fieldCells(
  shape: FieldShape,
  requests: readonly LiveRequest[],
  instance: Pick<Instance, "used_blocks" | "reserved_blocks">,
): Cell[] {
  const used = Math.round((instance.used_blocks ?? 0) / shape.blocksPerCell);
  const reserved = Math.round((instance.reserved_blocks ?? 0) / shape.blocksPerCell);
  const owners = requests.filter((request) => request.state !== "waiting" && request.state !== "preempted");
  const cells: Cell[] = [];
  let owner = 0;
  let ownedUntil = owners[0] ? owners[0].blocks / shape.blocksPerCell : 0;
  for (let index = 0; index < shape.cells; index += 1) {
    const square = squareAt(shape, index);
    if (index < used) {
      while (index >= Math.round(ownedUntil) && owner < owners.length - 1) {
        owner += 1;
        ownedUntil += (owners[owner]?.blocks ?? 0) / shape.blocksPerCell;
      }
      const mine = index < Math.round(ownedUntil) ? owners[owner] : undefined;
      cells.push({
        ...square,
        kind: "request",
        tenant: mine?.tenant ?? "",
        sloClass: mine?.slo_class ?? "standard",
      });
    } else {
      cells.push({ ...square, kind: index < used + reserved ? "arriving" : "free" });
    }
  }
  return cells;
}

function squareAt(shape: FieldShape, index: number): Square {
  const column = Math.floor(index / shape.rows);
  const row = index % shape.rows;
  const pitch = shape.cell + shape.gap;
  return { x: column * pitch, y: row * pitch, size: shape.cell, column, row };
}
