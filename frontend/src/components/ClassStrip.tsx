import { attained, type ClassNow, isHurt } from "../lib/fleet";
import { count, duration, percent, percentNumber } from "../lib/format";
import type { SloClass } from "../live/types";
import { ClassMark } from "./ClassMark";
import { Mark } from "./Mark";

interface StripProps {
  row: SloClass;
  load: ClassNow;
  trend: readonly (number | null)[];
  /** Said under it while reports are away. */
  source?: string | undefined;
}

/** One class: share in target, trend, and TTFT and TPOT as ring p50, bar to p99, line target. */
export function ClassStrip({ row, load, trend, source }: StripProps) {
  const hurt = isHurt(row);
  const met = attained(row);
  return (
    <section className={`card class-strip ${hurt ? "is-hurt" : ""}`} aria-label={`class ${row.name}`}>
      <div className="class-strip-head">
        <ClassMark name={row.name} />
        <h2>{row.name}</h2>
        <Sparkline values={trend} floor={row.objective} hurt={hurt} />
        <span className={`class-share ${hurt ? "critical" : ""}`}>
          {met && <Mark shape={hurt ? "hurt" : "good"} />} {percentNumber(met?.share)}
          {met && <span className="unit">%</span>}
        </span>
      </div>
      <div className="class-strip-sub caption">
        <span>
          {count(load.running)} running ·{" "}
          <span className={load.waiting ? "strong" : ""}>{count(load.waiting)} waiting</span>
        </span>
        <span>
          {met
            ? `in target, objective ${percent(row.objective, 0)}`
            : row.requests === null
              ? "no gateway saw a request lately"
              : "nothing finished in the last minute"}
        </span>
      </div>
      <Bullet name="TTFT" p50={row.ttft_p50_ms} p99={row.ttft_p99_ms} target={row.ttft_target_ms} />
      <Bullet name="TPOT" p50={row.tpot_p50_ms} p99={row.tpot_p99_ms} target={row.tpot_target_ms} />
      {source && <div className="caption">{source}</div>}
    </section>
  );
}

interface BulletProps {
  name: string;
  p50: number | null;
  p99: number | null;
  target: number | null;
}

const WIDTH = 78;

function Bullet({ name, p50, p99, target }: BulletProps) {
  const over = p99 !== null && target !== null && p99 > target;
  return (
    <div className="bullet">
      <span className="caption">{name}</span>
      <BulletPicture p50={p50} p99={p99} target={target} over={over} />
      <span className="t2 detail">p50 {duration(p50)}</span>
      <span className={`detail ${over ? "critical" : ""}`}>
        <span className="t2">p99</span> <b>{duration(p99)}</b>
      </span>
      <span className="t3 detail num">{target === null ? "no target" : `target ${duration(target)}`}</span>
    </div>
  );
}

function BulletPicture({ p50, p99, target, over }: Omit<BulletProps, "name"> & { over: boolean }) {
  const scale = Math.max(p99 ?? 0, (target ?? 0) * 1.12, 1);
  const x = (value: number) => 4 + (Math.min(value, scale) / scale) * (WIDTH - 8);
  const color = over ? "var(--critical)" : "var(--text-2)";
  return (
    <svg width={WIDTH} height={14} aria-hidden>
      <rect x={0} y={5} width={WIDTH} height={4} rx={2} fill="var(--track)" />
      {p50 !== null && p99 !== null && (
        <>
          <line x1={x(p50)} x2={x(p99)} y1={7} y2={7} stroke={color} strokeWidth={4} />
          <line x1={x(p99)} x2={x(p99)} y1={3} y2={11} stroke={color} strokeWidth={2} />
          <circle cx={x(p50)} cy={7} r={3.2} fill="var(--card)" stroke={color} strokeWidth={1.6} />
        </>
      )}
      {target !== null && (
        <line x1={x(target)} x2={x(target)} y1={1} y2={13} stroke="var(--text)" strokeWidth={2} />
      )}
    </svg>
  );
}

const SPARK = { width: 84, height: 22 };

function Sparkline({
  values,
  floor,
  hurt,
}: {
  values: readonly (number | null)[];
  floor: number;
  hurt: boolean;
}) {
  const known = values.filter((value): value is number => value !== null);
  if (known.length < 2) return <span style={{ width: SPARK.width }} />;
  const low = Math.min(floor - 0.01, ...known);
  const x = (index: number) => (index / (values.length - 1)) * (SPARK.width - 4) + 1;
  const y = (value: number) => 3 + (1 - (value - low) / (1 - low || 1)) * (SPARK.height - 6);
  let path = "";
  let pen = "M";
  values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
    } else {
      path += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
  });
  const last = values.at(-1);
  const color = hurt ? "var(--critical)" : "var(--text-2)";
  return (
    <svg width={SPARK.width} height={SPARK.height} role="img" aria-label="share in target, last minutes">
      <line
        x1={0}
        x2={SPARK.width}
        y1={y(floor)}
        y2={y(floor)}
        stroke="var(--text-3)"
        strokeDasharray="2 3"
        opacity={0.7}
      />
      <path d={path} fill="none" stroke={color} strokeWidth={1.4} />
      {last != null && <circle cx={x(values.length - 1)} cy={y(last)} r={2} fill={color} />}
    </svg>
  );
}
