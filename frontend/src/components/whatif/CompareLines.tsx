import { type Point, placeOn, type Scale, scaleOf, ticksOf } from "../../lib/whatIf";

interface LinesProps {
  title: string;
  note: string;
  names: readonly [string, string];
  lines: readonly [readonly Point[], readonly Point[]];
  x: { log: boolean; show: (value: number) => string };
  y: { log: boolean; show: (value: number) => string };
}

const [WIDTH, HEIGHT] = [460, 190];
const BOX = { left: 56, right: WIDTH - 12, top: 10, bottom: HEIGHT - 26 };

/** Two lines over one pair of axes: the baseline grey and dashed, the other in the accent. */
export function CompareLines({ title, note, names, lines, x, y }: LinesProps) {
  const all = lines.flat();
  const scales = {
    x: scaleOf(
      all.map((point) => point[0]),
      x.log,
    ),
    y: scaleOf(
      all.map((point) => point[1]),
      y.log,
    ),
  };
  return (
    <figure className="compare">
      <figcaption>
        <b>{title}</b> <span className="t3 detail">{note}</span>
      </figcaption>
      {all.length < 4 ? (
        <p className="t3">Too few samples for a line.</p>
      ) : (
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={said(title, names, lines, y.show)}>
          <Axis scale={scales.x} show={x.show} along="x" />
          <Axis scale={scales.y} show={y.show} along="y" />
          <path
            d={path(lines[0], scales)}
            fill="none"
            stroke="var(--text-2)"
            strokeWidth={1.6}
            strokeDasharray="5 3"
          />
          <path d={path(lines[1], scales)} fill="none" stroke="var(--accent)" strokeWidth={1.8} />
        </svg>
      )}
    </figure>
  );
}

function Axis({ scale, show, along }: { scale: Scale; show: (value: number) => string; along: "x" | "y" }) {
  const all = ticksOf(scale);
  const ticks = all.filter((tick, index) => index === 0 || show(tick) !== show(all[index - 1] ?? 0));
  return (
    <>
      {ticks.map((tick, index) =>
        along === "x" ? (
          <text
            key={tick}
            x={xAt(scale, tick)}
            y={HEIGHT - 8}
            textAnchor={index === 0 && !scale.log ? "start" : index === ticks.length - 1 ? "end" : "middle"}
            className="svg-caption"
          >
            {show(tick)}
          </text>
        ) : (
          <g key={tick}>
            <line
              x1={BOX.left}
              x2={BOX.right}
              y1={yAt(scale, tick)}
              y2={yAt(scale, tick)}
              stroke="var(--line)"
            />
            <text x={BOX.left - 6} y={yAt(scale, tick) + 4} textAnchor="end" className="svg-caption">
              {show(tick)}
            </text>
          </g>
        ),
      )}
    </>
  );
}

function xAt(scale: Scale, value: number): number {
  return BOX.left + placeOn(scale, value) * (BOX.right - BOX.left);
}

function yAt(scale: Scale, value: number): number {
  return BOX.bottom - placeOn(scale, value) * (BOX.bottom - BOX.top);
}

function path(line: readonly Point[], scales: { x: Scale; y: Scale }): string {
  return line
    .map(
      ([x, y], index) => `${index ? "L" : "M"}${xAt(scales.x, x).toFixed(1)} ${yAt(scales.y, y).toFixed(1)}`,
    )
    .join("");
}

function said(
  title: string,
  names: readonly [string, string],
  lines: LinesProps["lines"],
  show: (value: number) => string,
): string {
  const words = lines.map((line, index) => {
    const values = line.map((point) => point[1]);
    return `${names[index]} from ${show(Math.min(...values))} to ${show(Math.max(...values))}`;
  });
  return `${title}: ${words.join("; ")}`;
}
