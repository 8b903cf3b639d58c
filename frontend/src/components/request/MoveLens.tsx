import { Link } from "react-router";
import { duration } from "../../lib/format";
import { moveLens } from "../../lib/requestLife";
import { stopLong } from "../../lib/words";
import type { Migration } from "../../live/types";

const WIDTH = 540;
const ROW = 26;

/** About a second of the life, under a lens: who makes tokens, what is copied, how long the pause was. */
export function MoveLens({ move, start }: { move: Migration; start: number }) {
  const lens = moveLens(move, start);
  return (
    <section className="card" aria-label={`move ${move.source} to ${move.destination}`}>
      <div className="card-head">
        <h2>
          Move {move.source} → {move.destination}
        </h2>
        <span className="t3">
          {lens ? `${duration(lens.from * 1000)} to ${duration(lens.to * 1000)}` : "no stage was copied"}
        </span>
        <Link className="aside" to={`/migrations/${move.id}`}>
          Stages
        </Link>
      </div>
      <div className="card-body">
        {move.state !== "done" && move.ended_at !== null && <p className="detail t2">{stopLong(move)}</p>}
        {lens && <Picture move={move} lens={lens} />}
      </div>
    </section>
  );
}

function Picture({ move, lens }: { move: Migration; lens: NonNullable<ReturnType<typeof moveLens>> }) {
  const x = (at: number) => ((at - lens.from) / (lens.to - lens.from)) * WIDTH;
  const frozen = lens.stages.find((stage) => stage.final);
  const sourceUntil = frozen?.from ?? lens.to;
  const rows = lens.stages.filter((stage) => !stage.final);
  const crowded = frozen !== undefined && x(frozen.to) > WIDTH - 130;
  const foot = 34 + rows.length * ROW;
  const height = foot + 52;
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${height}`}
      className="lens"
      role="img"
      aria-label={lens.stages.map((stage) => `${stage.name}: ${stage.detail}`).join("; ")}
    >
      <text x={0} y={10} className="svg-caption">
        {move.source} makes tokens
      </text>
      <rect x={0} y={16} width={x(sourceUntil)} height={16} fill="var(--accent-tint)" />
      <Ticks from={lens.from} to={sourceUntil} y={16} move={move} lens={lens} x={x} />
      {rows.map((stage, index) => (
        <StageRow key={stage.name} stage={stage} y={36 + index * ROW} x={x} />
      ))}
      {frozen && (
        <>
          <rect
            x={x(frozen.from)}
            y={12}
            width={Math.max(2, x(frozen.to) - x(frozen.from))}
            height={height - 34}
            fill="var(--text)"
            opacity={0.85}
          />
          <text
            // Beside the bar where there is room, else above it.
            x={crowded ? x(frozen.to) : x(frozen.to) + 8}
            y={crowded ? 10 : foot + 2}
            className="svg-caption"
            textAnchor={crowded ? "end" : "start"}
          >
            freeze, hand over <tspan className="svg-label">{duration(move.downtime_ms)}</tspan>
          </text>
          <rect
            x={x(frozen.to)}
            y={foot + 10}
            width={Math.max(0, WIDTH - x(frozen.to))}
            height={16}
            fill="var(--accent-tint)"
          />
          <text x={x(frozen.from) - 6} y={foot + 22} textAnchor="end" className="svg-caption">
            {move.destination} makes the next token
          </text>
        </>
      )}
      <line x1={0} x2={WIDTH} y1={height - 18} y2={height - 18} stroke="var(--border)" />
      <text x={0} y={height - 4} className="svg-caption">
        {duration(Math.max(0, lens.from) * 1000)}
      </text>
      <text x={WIDTH} y={height - 4} textAnchor="end" className="svg-caption">
        {duration(lens.to * 1000)}
      </text>
    </svg>
  );
}

function StageRow({
  stage,
  y,
  x,
}: {
  stage: { name: string; from: number; to: number; detail: string };
  y: number;
  x: (at: number) => number;
}) {
  const left = x(stage.from);
  const width = Math.max(2, x(stage.to) - left);
  const end = left > WIDTH * 0.6;
  return (
    <g>
      <text
        x={end ? left + width : left}
        y={y + 10}
        textAnchor={end ? "end" : "start"}
        className="svg-caption"
      >
        <tspan className="svg-label">{stage.name}</tspan> {stage.detail} ·{" "}
        {duration((stage.to - stage.from) * 1000)}
      </text>
      <rect x={left} y={y + 13} width={width} height={8} fill="var(--accent)" />
    </g>
  );
}

/** Tokens made while stages were copied, spread evenly: the source counts them, not their moments. */
function Ticks({
  y,
  move,
  lens,
  x,
}: {
  from: number;
  to: number;
  y: number;
  move: Migration;
  lens: NonNullable<ReturnType<typeof moveLens>>;
  x: (at: number) => number;
}) {
  return (
    <g stroke="var(--accent)" strokeWidth={1.6}>
      {lens.stages.flatMap((stage, index) => {
        const made = move.stages[index]?.tokens_meanwhile ?? 0;
        const shown = Math.min(made, 40);
        return Array.from({ length: shown }, (_, tick) => {
          const at = x(stage.from + ((tick + 0.5) / shown) * (stage.to - stage.from));
          return <line key={`${index}-${tick}`} x1={at} x2={at} y1={y + 2} y2={y + 14} />;
        });
      })}
    </g>
  );
}
