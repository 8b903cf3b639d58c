import { duration } from "../../lib/format";
import { useNarrow } from "../../lib/narrow";
import type { Life, Span } from "../../lib/requestLife";
import type { Migration } from "../../live/types";

const WIDE = 1120;
const NARROW = 332;
const BAR = { y: 40, height: 26 };

const COLORS: Record<string, string> = {
  queued: "var(--track)",
  waiting: "var(--track)",
  prefill: "var(--used)",
  recovery: "var(--warning-tint)",
  downtime: "var(--text)",
};

/** The whole life to scale: queued, prefill, decode per instance, copies under it, pauses, recovery. */
export function LifeBar({ life, moves, color }: { life: Life; moves: readonly Migration[]; color: string }) {
  const narrow = useNarrow();
  const width = narrow ? NARROW : WIDE;
  const x = (at: number) => Math.max(0, Math.min(width, (at / life.length) * width));
  return (
    <div className="scroll-x">
      <svg
        viewBox={`0 0 ${width} 118`}
        className={narrow ? "life-bar is-narrow" : "life-bar"}
        role="img"
        aria-label={life.spans
          .map((span) => `${spanWords(span)} ${duration((span.to - span.from) * 1000)}`)
          .join("; ")}
      >
        {life.spans.map((span, index) => (
          <SpanMark key={index} span={span} x={x} color={color} />
        ))}
        {moves.map((move) => (
          <CopyMark key={move.id} move={move} start={life.start} x={x} brief={narrow} />
        ))}
        <line x1={0} x2={width} y1={96} y2={96} stroke="var(--border)" />
        {ticks(life.length, narrow ? 3 : 6).map((at) => (
          <g key={at}>
            <line x1={x(at)} x2={x(at)} y1={96} y2={100} stroke="var(--border)" />
            <text
              x={x(at)}
              y={113}
              textAnchor={at === 0 ? "start" : x(at) > width - 30 ? "end" : "middle"}
              className="svg-caption"
            >
              {duration(at * 1000)}
            </text>
          </g>
        ))}
      </svg>
    </div>
  );
}

function spanWords(span: Span): string {
  return span.instance && span.kind === "decode" ? `decode on ${span.instance}` : span.kind;
}

function SpanMark({ span, x, color }: { span: Span; x: (at: number) => number; color: string }) {
  const left = x(span.from);
  const width = Math.max(1.5, x(span.to) - left);
  const decode = span.kind === "decode";
  return (
    <g>
      <rect
        x={left}
        y={span.kind === "downtime" ? BAR.y - 6 : BAR.y}
        width={width}
        height={span.kind === "downtime" ? BAR.height + 12 : BAR.height}
        fill={decode ? color : (COLORS[span.kind] ?? "var(--track)")}
        stroke={span.kind === "recovery" ? "var(--warning)" : "none"}
        strokeDasharray="4 3"
      >
        <title>{`${spanWords(span)}, ${duration((span.to - span.from) * 1000)}`}</title>
      </rect>
      {(decode || span.kind === "recovery") && width > 70 && (
        <>
          <text x={left + 4} y={17} className="svg-label">
            {spanWords(span)}
          </text>
          <text x={left + 4} y={32} className="svg-caption">
            {duration((span.to - span.from) * 1000)}
          </text>
        </>
      )}
    </g>
  );
}

interface CopyProps {
  move: Migration;
  start: number;
  x: (at: number) => number;
  brief: boolean;
}

function CopyMark({ move, start, x, brief }: CopyProps) {
  const from = x(move.started_at - start);
  const to = Math.max(from + 3, x((move.ended_at ?? move.updated_at) - start));
  const left = from > (brief ? NARROW * 0.3 : WIDE * 0.6);
  return (
    <g>
      <rect x={from} y={70} width={to - from} height={5} fill="var(--accent)" />
      <text x={left ? to : from} y={88} textAnchor={left ? "end" : "start"} className="svg-accent">
        {`copy to ${move.destination}${brief ? "" : ", decoding goes on"}`}
        {move.downtime_ms !== null && ` · downtime ${duration(move.downtime_ms)}`}
      </text>
    </g>
  );
}

/** Round moments: about so many of them. */
export function ticks(length: number, about = 6): number[] {
  const raw = length / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= raw) ?? raw;
  const made = [];
  for (let at = 0; at <= length + step / 1000; at += step) made.push(Number(at.toPrecision(6)));
  return made;
}
