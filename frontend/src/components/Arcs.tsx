import type { Migration } from "../live/types";

const ROW = 31;
const WIDTH = 48;

/** Running moves as arrows from row to row, at the right edge of the fleet table. */
export function Arcs({ order, moves }: { order: readonly string[]; moves: readonly Migration[] }) {
  const place = new Map(order.map((id, index) => [id, index * ROW + ROW / 2]));
  const drawn = moves.flatMap((move) => {
    const from = place.get(move.source);
    const to = place.get(move.destination);
    return from === undefined || to === undefined ? [] : [{ move, from, to }];
  });
  if (drawn.length === 0) return null;
  return (
    <svg className="arcs" width={WIDTH} height={order.length * ROW} role="presentation" aria-hidden>
      {drawn.map(({ move, from, to }, index) => {
        const reach = Math.min(WIDTH + 6, 20 + Math.abs(to - from) / 7 + (index % 3) * 6);
        const width = 1.2 + Math.min(1.8, (move.tokens_at_start ?? 0) / 1500);
        return (
          <g key={move.id} stroke="var(--accent)" fill="none">
            <path d={`M2 ${from} C${reach} ${from} ${reach} ${to} 10 ${to}`} strokeWidth={width} />
            <path d={`M2 ${to} l8 -4 v8 z`} fill="var(--accent)" stroke="none" />
          </g>
        );
      })}
    </svg>
  );
}
