import type { Level } from "../lib/fleet";
import type { EventKind } from "../live/types";

export type Shape = Level | EventKind;

const LABELS: Record<Shape, string> = {
  hurt: "hurt",
  risk: "at risk",
  good: "good",
  moving: "moving",
  unknown: "stopped or unknown",
  stopped: "stopped",
  note: "",
};

/** A state is a shape first: triangle hurt, diamond at risk, tick good, arrow moving, dashed circle unknown. */
export function Mark({ shape, size = 14, label }: { shape: Shape; size?: number; label?: string }) {
  const text = label ?? LABELS[shape];
  return (
    <svg
      className="mark"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      role={text ? "img" : "presentation"}
      aria-label={text || undefined}
    >
      {drawing(shape)}
    </svg>
  );
}

function drawing(shape: Shape) {
  switch (shape) {
    case "hurt":
      return (
        <>
          <path d="M8 1.5 15 14H1z" fill="var(--critical)" />
          <path d="M8 6v4M8 11.6v.9" stroke="var(--card)" strokeWidth="1.6" />
        </>
      );
    case "risk":
      return (
        <>
          <path d="M8 .8 15.2 8 8 15.2.8 8z" fill="var(--warning)" />
          <path d="M8 4.6v4.2M8 10.4v.9" stroke="var(--card)" strokeWidth="1.6" />
        </>
      );
    case "good":
      return (
        <g fill="none" stroke="var(--good)" strokeWidth="1.5">
          <circle cx="8" cy="8" r="6.2" />
          <path d="m5.2 8.2 2 2 3.6-4" />
        </g>
      );
    case "moving":
      return <path d="M1.5 8h12M9.5 4l4 4-4 4" fill="none" stroke="var(--accent)" strokeWidth="1.6" />;
    case "note":
      return <circle cx="8" cy="8" r="2.4" fill="var(--text-3)" />;
    default:
      return (
        <circle
          cx="8"
          cy="8"
          r="6"
          fill="none"
          stroke="var(--text-3)"
          strokeWidth="1.5"
          strokeDasharray="2.4 2.3"
        />
      );
  }
}
