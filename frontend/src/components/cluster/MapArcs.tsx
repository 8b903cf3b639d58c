import { type RefObject, useEffect, useState } from "react";
import { Link } from "react-router";
import { count } from "../../lib/format";
import { tenantColor } from "../../lib/tenants";
import { shortId } from "../../lib/words";
import type { Migration } from "../../live/types";

interface ArcsProps {
  holder: RefObject<HTMLDivElement | null>;
  moves: readonly Migration[];
  tenants: readonly string[];
  blockSize: number | null;
  /** Changes whenever cells may stand elsewhere. */
  layoutKey: string;
}

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Running moves between the cells, drawn over the map: width by blocks, what moves on the arc. */
export function MapArcs({ holder, moves, tenants, blockSize, layoutKey }: ArcsProps) {
  const [boxes, setBoxes] = useState<ReadonlyMap<string, Box>>(new Map());
  const [size, setSize] = useState({ width: 0, height: 0 });
  // Not a layout effect: the map around it is at hand only after those of its children.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for where the cells are.
  useEffect(() => {
    const element = holder.current;
    if (!element) return;
    const measure = () => {
      const origin = element.getBoundingClientRect();
      const found = new Map<string, Box>();
      for (const cell of element.querySelectorAll<HTMLElement>("[data-cell]")) {
        const box = cell.getBoundingClientRect();
        const { width, height } = box;
        found.set(cell.dataset.cell ?? "", {
          x: box.left - origin.left,
          y: box.top - origin.top,
          width,
          height,
        });
      }
      setBoxes(found);
      setSize({ width: element.scrollWidth, height: element.scrollHeight });
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [holder, layoutKey]);
  const drawn = moves.flatMap((move, index) => {
    const from = boxes.get(move.source);
    const to = boxes.get(move.destination);
    return from && to ? [{ move, ...arc(from, to, index) }] : [];
  });
  return (
    <>
      <svg className="map-arcs" width={size.width} height={size.height} aria-hidden>
        <defs>
          <marker id="arc-head" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">
            <path d="M0 0 8 4 0 8z" fill="var(--accent)" />
          </marker>
        </defs>
        {drawn.map(({ move, path }) => (
          <g key={move.id} fill="none">
            <path d={path} stroke="var(--page)" strokeWidth={widthOf(move) + 3} opacity={0.8} />
            <path
              className="map-arc"
              d={path}
              pathLength={1}
              stroke="var(--accent)"
              strokeWidth={widthOf(move)}
              markerEnd="url(#arc-head)"
            />
          </g>
        ))}
      </svg>
      {drawn.map(({ move, middle }) => (
        <Link
          key={move.id}
          className="map-arc-label detail"
          style={{ left: middle.x, top: middle.y }}
          to={`/migrations/${move.id}`}
          title={`${move.request_id}: ${move.source} → ${move.destination}`}
        >
          <span className="swatch" style={{ background: tenantColor(tenants, move.tenant) }} />{" "}
          {shortId(move.request_id)}
          {move.tokens_at_start && blockSize
            ? ` · ${count(Math.ceil(move.tokens_at_start / blockSize))} blocks`
            : ""}
        </Link>
      ))}
    </>
  );
}

function widthOf(move: Migration): number {
  return 1.4 + Math.min(2.2, (move.tokens_at_start ?? 0) / 1500);
}

/** From edge to edge: below or above where rows differ, else from the foot of one to the foot of the other. */
function arc(from: Box, to: Box, index: number): { path: string; middle: { x: number; y: number } } {
  const shift = ((index % 3) - 1) * 16;
  const x0 = from.x + from.width / 2 + shift;
  const x1 = to.x + to.width / 2 + shift;
  const down = to.y > from.y + from.height - 1;
  const up = from.y > to.y + to.height - 1;
  if (down || up) {
    const y0 = down ? from.y + from.height : from.y;
    const y1 = down ? to.y - 3 : to.y + to.height + 3;
    const bend = (y1 - y0) / 2;
    return {
      path: `M${x0} ${y0}C${x0} ${y0 + bend} ${x1} ${y1 - bend} ${x1} ${y1}`,
      middle: { x: (x0 + x1) / 2, y: (y0 + y1) / 2 },
    };
  }
  const y0 = from.y + from.height;
  const y1 = to.y + to.height + 3;
  const depth = Math.max(y0, y1) + 26 + (index % 3) * 5;
  return {
    path: `M${x0} ${y0}C${x0} ${depth} ${x1} ${depth} ${x1} ${y1}`,
    middle: { x: (x0 + x1) / 2, y: depth - 8 },
  };
}
