import type { CSSProperties } from "react";
import type { Owner } from "../lib/blockfield";
import { usedShare } from "../lib/fleet";
import { count, percent } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import type { Instance } from "../live/types";
import { classPattern } from "./ClassMark";

interface BarProps {
  instance: Instance;
  stale: boolean;
  /** Most blocks first; without them the bar shows what each class holds. */
  requests?: readonly Owner[] | undefined;
  tenants?: readonly string[];
  highlight?: string;
}

/** KV memory of one instance: used (by request or by class), arriving, headroom, then what is free, with its number. */
export function MemoryBar({ instance, stale, requests, tenants = [], highlight = "" }: BarProps) {
  const total = instance.total_blocks;
  if (total === null || instance.used_blocks === null) {
    return (
      <div className="membar membar-empty" role="img" aria-label={`${instance.id}: no report yet`}>
        no report yet
      </div>
    );
  }
  const reserved = instance.reserved_blocks ?? 0;
  const headroom = instance.headroom_blocks ?? 0;
  const free = Math.max(0, total - instance.used_blocks - reserved);
  const open = Math.max(0, free - headroom);
  const used = requests && !stale ? byRequest(instance, requests, tenants) : byClass(instance);
  return (
    <div className={`membar ${stale ? "membar-stale" : ""}`} role="img" aria-label={words(instance, free)}>
      {used.map((segment) => (
        <Segment
          key={segment.key}
          share={segment.blocks / total}
          color={segment.color}
          className={`seg seg-used pattern-${classPattern(segment.sloClass)}${segment.leaving ? " seg-leaving" : ""}${
            highlight && segment.tenant !== highlight ? " seg-away" : ""
          }`}
        >
          {segment.label}
        </Segment>
      ))}
      <Segment share={reserved / total} className="seg seg-arriving" />
      <Segment share={headroom / total} className="seg seg-headroom" />
      <Segment share={open / total} className="seg seg-free">
        {count(open)} free
      </Segment>
      <span className="membar-tick" />
    </div>
  );
}

interface SegmentProps {
  share: number;
  className: string;
  color?: string | undefined;
  children?: React.ReactNode;
}

function Segment({ share, className, color, children }: SegmentProps) {
  if (share <= 0) return null;
  const style = { "--share": share, ...(color ? { "--seg": color } : {}) } as CSSProperties;
  return (
    <span className={className} style={style}>
      {children && <span className="seg-label">{children}</span>}
    </span>
  );
}

interface Part {
  key: string;
  blocks: number;
  sloClass: string;
  tenant: string;
  color?: string;
  label: string;
  leaving: boolean;
}

/** Requests that hold memory, cut to what the instance says is used: the two are told at different moments. */
function byRequest(instance: Instance, requests: readonly Owner[], tenants: readonly string[]): Part[] {
  const parts: Part[] = [];
  let left = instance.used_blocks ?? 0;
  for (const request of requests) {
    if (!["running", "frozen"].includes(request.state) || left <= 0) continue;
    const blocks = Math.min(left, request.blocks);
    left -= blocks;
    parts.push({
      key: request.engine_id,
      blocks,
      sloClass: request.slo_class,
      tenant: request.tenant,
      color: tenantColor(tenants, request.tenant),
      label: "",
      leaving: request.migration_id !== "",
    });
  }
  if (left > 0) parts.push(rest(left));
  return parts;
}

function byClass(instance: Instance): Part[] {
  const known = instance.classes
    .filter((load) => load.used_blocks > 0)
    .map((load) => ({
      key: load.slo_class,
      blocks: load.used_blocks,
      sloClass: load.slo_class,
      tenant: "",
      label: count(load.used_blocks),
      leaving: false,
    }));
  const left = (instance.used_blocks ?? 0) - known.reduce((sum, each) => sum + each.blocks, 0);
  return left > 0 ? [...known, rest(left)] : known;
}

function rest(blocks: number): Part {
  return { key: "rest", blocks, sloClass: "standard", tenant: "", label: "", leaving: false };
}

function words(instance: Instance, free: number): string {
  const parts = instance.classes
    .filter((load) => load.used_blocks > 0)
    .map((load) => `${load.slo_class} ${count(load.used_blocks)}`);
  return [
    `${instance.id}: ${count(instance.used_blocks)} of ${count(instance.total_blocks)} blocks used`,
    parts.length ? `(${parts.join(", ")})` : "",
    `${count(instance.reserved_blocks)} arriving, ${count(free)} free, ${percent(usedShare(instance))} full`,
  ].join(" ");
}
