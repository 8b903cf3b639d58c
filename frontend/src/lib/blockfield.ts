// Geometry of the memory field. Pure: sizes in, squares out.

import type { LiveRequest } from "../api/types";
import type { Instance } from "../live/types";

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
  const { pitch } = shape;
  const gap = pitch >= 6 ? 2 : 1;
  const x = Math.round(column * pitch);
  const y = Math.round(row * pitch);
  return { x, y, size: Math.max(1, Math.floor(pitch) - gap), column, row };
}
