import type { Preview, PreviewInstance } from "../../api/scheduling";
import { decisionWhy, decisionWords } from "../../lib/decisionWords";
import { age, count, plural } from "../../lib/format";
import { Mark } from "../Mark";

/** What the draft would do to the fleet as it is at this moment, by the very code that decides. */
export function PreviewCard({ preview, now }: { preview: Preview; now: number }) {
  const [soon, current] = [preview.decisions.length, preview.decisions_now.length];
  return (
    <section className="card" aria-label="preview">
      <div className="card-head">
        <h2>On the fleet right now</h2>
        <span className="aside">
          live snapshot, {age(now - preview.taken_at_s)} ago · {preview.policy}
        </span>
      </div>
      <div className="card-body form">
        <p>
          Would decide <b>{plural(soon, "thing")}</b> in its first tick; the active policy decides{" "}
          {count(current)}.
        </p>
        {soon > 0 && (
          <ul>
            {preview.decisions.slice(0, 6).map((each, index) => (
              <li key={index}>
                <Mark shape="moving" size={12} /> {decisionWords(each.decision)}{" "}
                <span className="t3 detail">{decisionWhy(each.decision) || each.explanation.rule}</span>
              </li>
            ))}
            {soon > 6 && <li className="t3">and {count(soon - 6)} more</li>}
          </ul>
        )}
        <Dumbbell rows={preview.instances} />
      </div>
    </section>
  );
}

const [LEFT, WIDTH, ROW] = [92, 620, 22];

/** Freeness per instance: ring as it counts now, dot as the draft would count it. */
function Dumbbell({ rows }: { rows: readonly PreviewInstance[] }) {
  const values = rows
    .flatMap((row) => [row.freeness_tokens, row.freeness_now_tokens])
    .filter((each) => each !== null);
  const low = Math.min(0, ...values);
  const high = Math.max(1, ...values);
  const x = (value: number) => LEFT + ((value - low) / (high - low)) * (WIDTH - LEFT - 150);
  return (
    <div className="scroll-x">
      <svg
        className="dumbbell"
        viewBox={`0 0 ${WIDTH} ${rows.length * ROW + 20}`}
        role="img"
        aria-label={rows.map(words).join("; ")}
      >
        {rows.map((row, index) => {
          const y = index * ROW + 12;
          const [is, will] = [row.freeness_now_tokens, row.freeness_tokens];
          return (
            <g key={row.instance_id}>
              <text x={0} y={y + 4} className="svg-label">
                {row.instance_id}
              </text>
              <line x1={LEFT} x2={WIDTH - 140} y1={y} y2={y} stroke="var(--line)" />
              {is !== null && will !== null && (
                <line x1={x(is)} x2={x(will)} y1={y} y2={y} stroke="var(--text-2)" strokeWidth={2} />
              )}
              {is !== null && (
                <circle cx={x(is)} cy={y} r={4} fill="var(--card)" stroke="var(--text-2)" strokeWidth={1.6} />
              )}
              {will !== null && will !== is && <circle cx={x(will)} cy={y} r={4} fill="var(--accent)" />}
              <text x={WIDTH} y={y + 4} textAnchor="end" className="svg-caption">
                {row.draining ? "drains" : is === will ? count(is) : `${count(is)} → ${count(will)}`}
              </text>
            </g>
          );
        })}
        <text x={LEFT} y={rows.length * ROW + 16} className="svg-caption">
          ○ freeness now · ● under the draft · decode steps
        </text>
      </svg>
    </div>
  );
}

function words(row: PreviewInstance): string {
  return `${row.instance_id} ${count(row.freeness_now_tokens)} now, ${count(row.freeness_tokens)} under the draft`;
}
