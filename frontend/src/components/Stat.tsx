import type { ReactNode } from "react";

interface StatProps {
  value: string;
  unit?: string;
  caption: ReactNode;
  tone?: "critical" | "warning" | undefined;
}

/** A number at 20 px, its unit at 60 %, what it means under it. */
export function Stat({ value, unit, caption, tone }: StatProps) {
  return (
    <div className="stat">
      <div className={`stat-value ${tone ?? ""}`}>
        {value}
        {unit && <span className="unit">{unit}</span>}
      </div>
      <div className="caption">{caption}</div>
    </div>
  );
}
