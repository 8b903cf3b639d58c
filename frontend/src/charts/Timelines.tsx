import { useEffect, useLayoutEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, count, duration, percent } from "../lib/format";
import { useHistory } from "../live/trend";
import type { Instance, Migration } from "../live/types";
import { columnsOf, type Series } from "./timelineData";

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
}

const LANES: Lane[] = [
  {
    field: "used_share",
    name: "KV memory",
    unit: "used",
    show: (value) => percent(value),
    floor: 0,
    ceiling: 1,
  },
  { field: "freeness", name: "Freeness", unit: "decode steps", show: count },
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
      <div className="timeline-axis caption">
        <span>{clock(columns.at[0])}</span>
        <span>{cursor === null ? "" : clock(columns.at[cursor])}</span>
        <span>{clock(columns.at.at(-1))}</span>
      </div>
    </div>
  );
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
  const shown = cursor === null ? values.at(-1) : values[cursor];
  return (
    <div className="timeline">
      <div className="timeline-name">
        {lane.name}
        <div className="caption">{lane.unit}</div>
      </div>
      <Plot lane={lane} times={times} values={values} onCursor={onCursor} />
      <div className="timeline-last num">{lane.show(shown ?? null)}</div>
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
    hooks: { setCursor: [(made) => onCursor(made.cursor.idx ?? null)] },
  };
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
