import { Link } from "react-router";
import {
  FULL_SHARE,
  freeTokens,
  instanceLevel,
  type Level,
  stateWord,
  usedShare,
  VERY_FULL_SHARE,
} from "../../lib/fleet";
import { age, count, duration, percentNumber } from "../../lib/format";
import { freshness } from "../../live/freshness";
import type { Instance, LiveRequest } from "../../live/types";
import { BlockField } from "../BlockField";
import { movingWords } from "../FleetTable";
import { Mark } from "../Mark";
import { MemoryBar } from "../MemoryBar";

export type Fill = "tenant" | "class" | "used" | "freeness" | "waiting" | "step";
export type Detail = "field" | "bar" | "square";

interface CellProps {
  instance: Instance;
  requests: readonly LiveRequest[] | undefined;
  tenants: readonly string[];
  now: number;
  fill: Fill;
  detail: Detail;
  highlight: string;
  selected: boolean;
  /** Height of the field, by the instance's share of the largest capacity. */
  size: number;
  onSelect: (id: string) => void;
}

/** One instance on the map: state, memory, badges, age. */
export function MapCell(props: CellProps) {
  const { instance, now, selected, detail, onSelect } = props;
  const { freshness: kind, age: seconds } = freshness(instance.heard_at, now);
  const stale = kind === "stale" || kind === "unknown";
  const level = instanceLevel(instance, now);
  if (detail === "square") return <Square {...props} level={level} stale={stale} />;
  return (
    <section
      className={`map-cell ${selected ? "is-selected" : ""} ${stale ? "is-stale" : ""}`}
      data-cell={instance.id}
      aria-label={instance.id}
    >
      <div className="map-cell-head">
        {level !== "good" && <Mark shape={level} size={13} />}
        <button
          type="button"
          className="map-cell-name"
          aria-pressed={selected}
          onClick={() => onSelect(instance.id)}
        >
          {instance.id}
        </button>
        <span className={stale ? "t3" : shareTone(usedShare(instance))}>
          {percentNumber(usedShare(instance))}
          {usedShare(instance) !== null && "\u202f%"}
        </span>
        <span className={`caption push nowrap ${kind === "late" ? "warning" : ""}`}>
          {stateWord(instance, now) === "serving" ? "" : `${stateWord(instance, now)} · `}
          {seconds === null ? "no report" : `${age(seconds)} ago`}
        </span>
      </div>
      <Picture {...props} stale={stale} />
      <div className="map-cell-foot detail">
        <span>
          <span className="t3">freeness</span>{" "}
          <b className={!stale && (instance.freeness ?? 0) < 0 ? "critical" : ""}>
            {count(instance.freeness)}
          </b>
        </span>
        <span>
          {count(instance.running)} <span className="t3">run</span> ·{" "}
          <span className={instance.waiting ? "strong" : "t3"}>{count(instance.waiting)} wait</span>
        </span>
        <span className="t3">gap {count(freeTokens(instance))} tokens</span>
        <span className="accent">{movingWords(instance)}</span>
      </div>
    </section>
  );
}

function Picture({
  instance,
  requests,
  tenants,
  fill,
  detail,
  highlight,
  size,
  stale,
}: CellProps & { stale: boolean }) {
  if (instance.total_blocks === null) return <div className="map-cell-empty caption">no report yet</div>;
  if (fill === "tenant" && detail === "field" && requests !== undefined) {
    return (
      <BlockField
        instance={instance}
        requests={requests}
        tenants={tenants}
        stale={stale}
        height={size}
        highlight={highlight}
      />
    );
  }
  if (fill === "tenant" || fill === "class") {
    return (
      <MemoryBar
        instance={instance}
        stale={stale}
        requests={fill === "tenant" ? requests : undefined}
        tenants={tenants}
        highlight={highlight}
      />
    );
  }
  return <Gauge instance={instance} fill={fill} />;
}

/** One number as a bar with its words; the colour stays neutral, the level is the mark's. */
function Gauge({ instance, fill }: { instance: Instance; fill: Fill }) {
  const { share, text } = fillOf(instance, fill);
  return (
    <div className="map-gauge">
      <div className="map-gauge-track">
        <div className="map-gauge-fill" style={{ width: `${Math.min(1, share) * 100}%` }} />
      </div>
      <span className="detail">{text}</span>
    </div>
  );
}

/** How much of the cell to fill, and the number in words. */
export function fillOf(instance: Instance, fill: Fill): { share: number; text: string } {
  switch (fill) {
    case "freeness": {
      const value = instance.freeness;
      return { share: value === null ? 0 : Math.max(0, value) / 1000, text: `${count(value)} steps left` };
    }
    case "waiting":
      return { share: (instance.waiting ?? 0) / 10, text: `${count(instance.waiting)} waiting` };
    case "step":
      return { share: (instance.step_ms ?? 0) / 200, text: `${duration(instance.step_ms)} per step` };
    default:
      return {
        share: usedShare(instance) ?? 0,
        text: `${percentNumber(usedShare(instance))}\u202f% of ${count(instance.total_blocks)} blocks`,
      };
  }
}

function Square({
  instance,
  fill,
  selected,
  level,
  stale,
  onSelect,
}: CellProps & { level: Level; stale: boolean }) {
  const { share, text } = fillOf(instance, fill);
  return (
    <button
      type="button"
      className={`map-square level-${stale ? "unknown" : level} ${selected ? "is-selected" : ""}`}
      data-cell={instance.id}
      aria-label={`${instance.id}: ${text}`}
      title={`${instance.id}: ${text}`}
      style={{ "--fill": Math.min(1, share) } as React.CSSProperties}
      onClick={() => onSelect(instance.id)}
    />
  );
}

export function shareTone(share: number | null): string {
  if (share === null) return "t3";
  return share >= VERY_FULL_SHARE ? "critical strong" : share >= FULL_SHARE ? "warning strong" : "t2";
}

export function InstanceLink({ id }: { id: string }) {
  return <Link to={`/instances/${id}`}>{id}</Link>;
}
