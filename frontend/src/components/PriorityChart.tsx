import { duration } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import type { SloClass } from "../live/types";

interface Frame {
  width: number;
  /** Beside the names of the classes. */
  left: number;
  /** For the words after a line. */
  right: number;
  row: number;
}

const WIDE: Frame = { width: 900, left: 96, right: 130, row: 34 };
/** On a phone the words stand under their line. */
const NARROW: Frame = { width: 320, left: 0, right: 12, row: 62 };

/** Time to first token per class, p50 to p99, on one log scale: whether priority works. */
export function PriorityChart({ classes }: { classes: readonly SloClass[] }) {
  const narrow = useNarrow();
  const frame = narrow ? NARROW : WIDE;
  const known = classes.filter((row) => row.ttft_p50_ms !== null && row.ttft_p99_ms !== null);
  const values = known.flatMap((row) =>
    [row.ttft_p50_ms, row.ttft_p99_ms, row.ttft_target_ms].filter((value) => value !== null),
  );
  const low = Math.floor(Math.log10(Math.max(1, Math.min(...values, 100))));
  const high = Math.ceil(Math.log10(Math.max(1000, ...values)));
  const x = (ms: number) =>
    frame.left +
    8 +
    ((Math.log10(Math.max(1, ms)) - low) / (high - low)) * (frame.width - frame.left - frame.right - 8);
  const height = known.length * frame.row + 26;
  return (
    <section className="card" aria-label="does priority work">
      <div className="card-head">
        <h2>Does priority work?</h2>
        <span className="t3">time to first token, last minute, same instances</span>
        <span className="aside">p50 to p99, log scale</span>
      </div>
      {known.length === 0 ? (
        <p className="empty t2">Appears with the first finished requests.</p>
      ) : (
        <div className="scroll-x card-body">
          <svg
            viewBox={`0 0 ${frame.width} ${height}`}
            style={{ minWidth: narrow ? undefined : 560, maxWidth: frame.width, width: "100%" }}
            role="img"
            aria-label={words(known)}
          >
            {Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)).map((ms) => (
              <g key={ms}>
                <line x1={x(ms)} x2={x(ms)} y1={0} y2={height - 20} stroke="var(--line)" />
                <text
                  x={x(ms)}
                  y={height - 4}
                  textAnchor={narrow && ms === 10 ** high ? "end" : "middle"}
                  className="svg-caption"
                >
                  {tickWords(ms)}
                </text>
              </g>
            ))}
            {known.map((row, index) => (
              <ClassRow
                key={row.name}
                row={row}
                y={index * frame.row + (narrow ? 30 : 18)}
                x={x}
                narrow={narrow}
              />
            ))}
          </svg>
        </div>
      )}
    </section>
  );
}

interface RowProps {
  row: SloClass;
  y: number;
  x: (ms: number) => number;
  narrow: boolean;
}

function ClassRow({ row, y, x, narrow }: RowProps) {
  const p50 = row.ttft_p50_ms as number;
  const p99 = row.ttft_p99_ms as number;
  const over = row.ttft_target_ms !== null && p99 > row.ttft_target_ms;
  const color = over ? "var(--critical)" : "var(--text-2)";
  const right = Math.max(x(p99), row.ttft_target_ms === null ? 0 : x(row.ttft_target_ms));
  return (
    <g>
      <text x={0} y={narrow ? y - 14 : y + 4} className="svg-label">
        {row.name}
      </text>
      <line x1={x(p50)} x2={x(p99)} y1={y} y2={y} stroke={color} strokeWidth={5} opacity={0.8} />
      <line x1={x(p99)} x2={x(p99)} y1={y - 6} y2={y + 6} stroke={color} strokeWidth={2.5} />
      <circle cx={x(p50)} cy={y} r={4} fill="var(--card)" stroke={color} strokeWidth={1.8} />
      {row.ttft_target_ms !== null && (
        <line
          x1={x(row.ttft_target_ms)}
          x2={x(row.ttft_target_ms)}
          y1={y - 10}
          y2={y + 10}
          stroke="var(--text)"
          strokeWidth={2}
        />
      )}
      {!narrow && (
        <text x={x(p50) - 10} y={y + 4} textAnchor="end" className="svg-caption over-lines">
          {duration(p50)}
        </text>
      )}
      <text
        x={narrow ? 0 : right + 10}
        y={narrow ? y + 21 : y + 4}
        className="svg-caption"
        style={over ? { fill: "var(--critical)" } : undefined}
      >
        {narrow ? `${duration(p50)} to ${duration(p99)}` : duration(p99)}
        {row.ttft_target_ms === null
          ? ""
          : over
            ? ` over target ${duration(row.ttft_target_ms)}`
            : `, target ${duration(row.ttft_target_ms)}`}
      </text>
    </g>
  );
}

function words(classes: readonly SloClass[]): string {
  return classes
    .map((row) => `${row.name} p50 ${duration(row.ttft_p50_ms)}, p99 ${duration(row.ttft_p99_ms)}`)
    .join("; ");
}

function tickWords(ms: number): string {
  return ms < 1000 ? `${ms}\u202fms` : `${ms / 1000}\u202fs`;
}
