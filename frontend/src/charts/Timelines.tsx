import { useEffect, useLayoutEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { FULL_SHARE } from "../lib/fleet";
import { clock, count, duration, percent } from "../lib/format";
import { useHistory } from "../live/trend";
import type { Instance, Migration } from "../live/types";
import { columnsOf, csvOf, type Series } from "./timelineData";

interface TimelineProps {
  instance: Instance;
  migrations: ReadonlyMap<string, Migration>;
}

interface Lane {
  field: string;
  name: string;
  unit: string;
  show: (value: number | null) => string;
  floor?: number;
  ceiling?: number;
  /** A dashed line; beyond it the last value is hurt. */
  limit?: { at: number; words: string; beyond: (value: number) => boolean };
}

const LANES: Lane[] = [
  {
    field: "used_share",
    name: "KV memory",
    unit: "used",
    show: (value) => percent(value),
    floor: 0,
    ceiling: 1,
    limit: { at: FULL_SHARE, words: percent(FULL_SHARE, 0), beyond: (value) => value >= FULL_SHARE },
  },
  {
    field: "freeness",
    name: "Freeness",
    unit: "decode steps",
    show: count,
    limit: { at: 0, words: "overloaded below 0", beyond: (value) => value < 0 },
  },
  { field: "running", name: "Running", unit: "requests", show: count, floor: 0 },
  { field: "waiting", name: "Waiting", unit: "requests", show: count, floor: 0 },
  { field: "step_ms", name: "Step time", unit: "per decode step", show: duration, floor: 0 },
  { field: "preemptions", name: "Preempted", unit: "requests", show: count, floor: 0 },
];

/** Lanes of the last minutes with one cursor; moves stand above them in their own lane. */
export default function Timelines({ instance, migrations }: TimelineProps) {
  const history = useHistory("instance", instance.id);
  const [cursor, setCursor] = useState<number | null>(null);
  if (!history || history.points.length < 2) {
    return <p className="empty t3">Samples are taken every 2 s; the lines appear in a moment.</p>;
  }
  const columns = columnsOf(history);
  const moves = [...migrations.values()].filter(
    (move) => move.source === instance.id || move.destination === instance.id,
  );
  return (
    <div className="timelines">
      <MoveLane times={columns.at} moves={moves} id={instance.id} />
      {LANES.map((lane) => (
        <LaneView
          key={lane.field}
          lane={lane}
          times={columns.at}
          values={columns[lane.field] ?? []}
          cursor={cursor}
          onCursor={setCursor}
        />
      ))}
      <Moment columns={columns} cursor={cursor} onCursor={setCursor} />
      <div className="timeline-axis caption">
        {[0, 1, 2, 3].map((part) => (
          <span key={part}>{clock(columns.at[Math.round((part * (columns.at.length - 1)) / 3)])}</span>
        ))}
        {cursor !== null && <output className="timeline-cursor">{clock(columns.at[cursor])}</output>}
      </div>
      <div className="card-body timeline-foot">
        <button type="button" className="btn small quiet" onClick={() => download(instance.id, columns)}>
          Save as CSV
        </button>
      </div>
    </div>
  );
}

interface MomentProps {
  columns: ReturnType<typeof columnsOf>;
  cursor: number | null;
  onCursor: (index: number | null) => void;
}

/** The cursor for keys: arrows go through the samples, and the values there are read out. */
function Moment({ columns, cursor, onCursor }: MomentProps) {
  const at = Math.min(cursor ?? columns.at.length - 1, columns.at.length - 1);
  const values = LANES.map((lane) => `${lane.name} ${lane.show(columns[lane.field]?.[at] ?? null)}`);
  return (
    <input
      type="range"
      className="timeline-moment"
      aria-label="Moment"
      aria-valuetext={`${clock(columns.at[at])}: ${values.join(", ")}`}
      min={0}
      max={columns.at.length - 1}
      value={at}
      onChange={(event) => onCursor(Number(event.currentTarget.value))}
      onBlur={() => onCursor(null)}
    />
  );
}

function download(id: string, columns: ReturnType<typeof columnsOf>): void {
  const url = URL.createObjectURL(new Blob([csvOf(columns)], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${id}.csv`;
  link.click();
  URL.revokeObjectURL(url);
}

interface LaneProps {
  lane: Lane;
  times: Series;
  values: Series;
  cursor: number | null;
  onCursor: (index: number | null) => void;
}

const HEIGHT = 46;

function LaneView({ lane, times, values, cursor, onCursor }: LaneProps) {
  const shown = (cursor === null ? values.at(-1) : values[cursor]) ?? null;
  const hurt = shown !== null && lane.limit?.beyond(shown);
  return (
    <div className="timeline">
      <div className="timeline-name">
        {lane.name}
        <div className="caption">{lane.unit}</div>
      </div>
      <Plot lane={lane} times={times} values={values} onCursor={onCursor} />
      <div className={`timeline-last num ${hurt ? "critical strong" : ""}`}>{lane.show(shown)}</div>
    </div>
  );
}

function Plot({ lane, times, values, onCursor }: Omit<LaneProps, "cursor">) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const report = useRef(onCursor);
  report.current = onCursor;
  useLayoutEffect(() => {
    const element = holder.current;
    if (!element) return;
    const made = new uPlot(
      options(element, lane, (index) => report.current(index)),
      [[], []],
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [lane]);
  useEffect(() => {
    plot.current?.setData([times as number[], values]);
  });
  return <div ref={holder} className="timeline-plot" />;
}

function options(element: HTMLElement, lane: Lane, onCursor: (index: number | null) => void): uPlot.Options {
  const style = getComputedStyle(element);
  // Asked at each drawing: the theme may change while the lines are on the screen.
  const color = (name: string) => () => style.getPropertyValue(name).trim();
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: {
      sync: { key: "instance" },
      y: false,
      points: { size: 6, fill: color("--text") },
      drag: { x: false, y: false },
    },
    scales: {
      x: { time: true },
      y: {
        range: (_plot, low, high) => [
          lane.floor ?? Math.min(0, low),
          Math.max(lane.ceiling ?? 1, high * 1.1),
        ],
      },
    },
    axes: [{ show: false }, { show: false }],
    padding: [4, 4, 2, 0],
    series: [
      {},
      {
        stroke: color("--text-2"),
        width: 1.4,
        fill: color("--control"),
        spanGaps: false,
        points: { show: false },
      },
    ],
    hooks: {
      setCursor: [(made) => onCursor(made.cursor.idx ?? null)],
      draw: [(made) => lane.limit && drawLimit(made, lane.limit, color("--text-3")())],
    },
  };
}

/** The dashed line of a limit with its words, when it lies within what is drawn. */
function drawLimit(plot: uPlot, limit: NonNullable<Lane["limit"]>, color: string): void {
  const { ctx, bbox } = plot;
  const y = plot.valToPos(limit.at, "y", true);
  if (y < bbox.top || y > bbox.top + bbox.height + 1) return;
  const scale = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = color;
  ctx.setLineDash([3 * scale, 3 * scale]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${10 * scale}px ui-sans-serif, system-ui, sans-serif`;
  ctx.fillText(limit.words, bbox.left + 3 * scale, y + (y - bbox.top < 14 * scale ? 11 : -4) * scale);
  ctx.restore();
}

function MoveLane({ times, moves, id }: { times: Series; moves: Migration[]; id: string }) {
  const first = times[0] ?? 0;
  const last = times.at(-1) ?? 1;
  const shown = moves.filter((move) => move.started_at >= first);
  const out = shown.filter((move) => move.source === id);
  const place = (at: number) => `${((at - first) / Math.max(1, last - first)) * 100}%`;
  return (
    <div className="timeline">
      <div className="timeline-name">
        Moves
        <div className="caption">▼ out, △ in</div>
      </div>
      <div className="timeline-plot timeline-moves">
        {shown.map((move) => (
          <span
            key={move.id}
            className="accent"
            style={{ left: place(move.started_at) }}
            title={`${clock(move.started_at)} ${move.source} → ${move.destination}`}
          >
            {move.source === id ? "▼" : "△"}
          </span>
        ))}
      </div>
      <div className="timeline-last num">
        {count(out.length)} · {count(shown.length - out.length)}
      </div>
    </div>
  );
}
