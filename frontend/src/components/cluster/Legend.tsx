import { byRank } from "../../lib/fleet";
import { tenantColor } from "../../lib/tenants";
import type { LiveState } from "../../live/reducer";
import { PatternLegend } from "../ClassMark";

interface LegendProps {
  state: LiveState;
  highlight: string;
  byTenant: boolean;
  onHighlight: (tenant: string) => void;
}

const NAMED_TENANTS = 12;

/** Colours are tenants, patterns are classes; a name lights its tenant everywhere. */
export function Legend({ state, highlight, byTenant, onHighlight }: LegendProps) {
  return (
    <div className="legend map-legend">
      {byTenant &&
        state.tenants.slice(0, NAMED_TENANTS).map((slug) => (
          <button
            key={slug}
            type="button"
            className="legend-tenant"
            aria-pressed={highlight === slug}
            onClick={() => onHighlight(highlight === slug ? "" : slug)}
          >
            <span className="swatch" style={{ background: tenantColor(state.tenants, slug) }} /> {slug}
          </button>
        ))}
      <PatternLegend classes={byRank(state).map((row) => row.name)} />
      <span>
        <span className="class-mark leaving-mark" /> leaving
      </span>
    </div>
  );
}
