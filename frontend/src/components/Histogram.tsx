import { percentile } from "../lib/fleet";
import { count, duration } from "../lib/format";
import { bins } from "../lib/histogram";

const WIDTH = 340;
const HEIGHT = 130;
const FLOOR = HEIGHT - 20;

/** How long moves paused their streams; median and p99 marked. */
export function Histogram({ values }: { values: readonly number[] }) {
  const found = bins(values, 12);
  const p50 = percentile(values, 0.5);
  const p99 = percentile(values, 0.99);
  return (
    <section className="card" aria-label="downtime">
      <div className="card-head">
        <h2>Downtime</h2>
        <span className="aside">
          {count(values.length)} finished {values.length === 1 ? "move" : "moves"}
        </span>
      </div>
      {found === null || p50 === null || p99 === null ? (
        <p className="empty t2">Appears with the first finished move.</p>
      ) : (
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
          className="histogram"
          role="img"
          aria-label={`median ${duration(p50)}, 99th percentile ${duration(p99)}`}
        >
          {found.counts.map((value, index) => {
            const wide = (WIDTH - 20) / found.counts.length;
            const tall = (value / Math.max(...found.counts)) * (FLOOR - 34);
            const x = 10 + index * wide;
            return (
              <g key={index}>
                <rect x={x} y={FLOOR - tall} width={wide - 1} height={tall} fill="var(--used-2)" />
                {value > 0 && (
                  <text x={x + wide / 2} y={FLOOR - tall - 4} textAnchor="middle" className="svg-caption">
                    {count(value)}
                  </text>
                )}
              </g>
            );
          })}
          <line x1={10} x2={WIDTH - 10} y1={FLOOR} y2={FLOOR} stroke="var(--border)" />
          {[found.low, (found.low + found.high) / 2, found.high].map((value, index) => (
            <text
              key={index}
              x={[10, WIDTH / 2, WIDTH - 10][index]}
              y={HEIGHT - 6}
              textAnchor={(["start", "middle", "end"] as const)[index]}
              className="svg-caption"
            >
              {duration(value)}
            </text>
          ))}
          {(
            [
              ["p50", p50, 12],
              ["p99", p99, 12],
            ] as const
          ).map(([name, value, y]) => {
            const x = 10 + ((value - found.low) / (found.high - found.low || 1)) * (WIDTH - 20);
            const end = x > WIDTH / 2;
            return (
              <g key={name}>
                <line x1={x} x2={x} y1={y + 6} y2={FLOOR} stroke="var(--text)" strokeDasharray="2 3" />
                <text
                  x={end ? Math.min(x + 20, WIDTH - 4) : Math.max(x - 20, 4)}
                  y={y}
                  textAnchor={end ? "end" : "start"}
                  className="svg-label"
                >
                  {name} {duration(value)}
                </text>
              </g>
            );
          })}
        </svg>
      )}
    </section>
  );
}
