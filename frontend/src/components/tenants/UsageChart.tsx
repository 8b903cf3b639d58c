import type { UsageRow } from "../../api/shapes";
import { count, plural } from "../../lib/format";

const [WIDTH, HEIGHT] = [640, 110];

interface Day {
  day: string;
  prompt: number;
  output: number;
  requests: number;
}

/** Tokens per day: prompt below, output above; the table under it is its twin. */
export function UsageChart({ rows, days }: { rows: readonly UsageRow[]; days: number }) {
  const bars = byDay(rows, days);
  const most = Math.max(1, ...bars.map((bar) => bar.prompt + bar.output));
  const step = WIDTH / bars.length;
  const y = (tokens: number) => (tokens / most) * (HEIGHT - 2);
  const total = bars.reduce((sum, bar) => sum + bar.prompt + bar.output, 0);
  return (
    <figure className="usage-chart">
      <div className="caption">{count(most)} tokens</div>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
        height={HEIGHT}
        role="img"
        aria-label={`${count(total)} tokens in ${plural(days, "day")}`}
      >
        {bars.map((bar, index) => (
          <g key={bar.day}>
            <title>{`${bar.day}: ${count(bar.requests)} requests, ${count(bar.prompt)} tokens in, ${count(bar.output)} out`}</title>
            <rect
              x={index * step + 1}
              y={HEIGHT - y(bar.prompt)}
              width={Math.max(1, step - 3)}
              height={y(bar.prompt)}
              fill="var(--used-2)"
            />
            <rect
              x={index * step + 1}
              y={HEIGHT - y(bar.prompt) - y(bar.output)}
              width={Math.max(1, step - 3)}
              height={y(bar.output)}
              fill="var(--text)"
            />
          </g>
        ))}
        <line x1={0} x2={WIDTH} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} stroke="var(--border)" />
      </svg>
      <div className="caption usage-days">
        <span>{bars[0]?.day}</span>
        <span>{bars.at(-1)?.day}</span>
      </div>
      <figcaption className="caption">
        <span className="swatch key-prefill" /> tokens in · <span className="swatch key-out" /> tokens out,
        per day (UTC)
      </figcaption>
    </figure>
  );
}

function byDay(rows: readonly UsageRow[], days: number): Day[] {
  const today = Date.now();
  const found = new Map<string, Day>();
  for (let back = days - 1; back >= 0; back -= 1) {
    const day = new Date(today - back * 86_400_000).toISOString().slice(0, 10);
    found.set(day, { day, prompt: 0, output: 0, requests: 0 });
  }
  for (const row of rows) {
    const bar = found.get(row.day ?? "");
    if (!bar) continue;
    bar.prompt += row.prompt_tokens;
    bar.output += row.output_tokens;
    bar.requests += row.requests;
  }
  return [...found.values()];
}
