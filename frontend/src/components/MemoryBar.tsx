import type { CSSProperties } from "react";
import { usedShare } from "../lib/fleet";
import { count, percent } from "../lib/format";
import type { Instance } from "../live/types";
import { classPattern } from "./ClassMark";

/** KV memory of one instance: used by class, arriving, headroom, then what is free, with its number. */
export function MemoryBar({ instance, stale }: { instance: Instance; stale: boolean }) {
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
  return (
    <div className={`membar ${stale ? "membar-stale" : ""}`} role="img" aria-label={words(instance, free)}>
      {usedSegments(instance).map((segment) => (
        <Segment
          key={segment.name}
          share={segment.blocks / total}
          className={`seg seg-used pattern-${classPattern(segment.name)}`}
        >
          {count(segment.blocks)}
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

function Segment({
  share,
  className,
  children,
}: {
  share: number;
  className: string;
  children?: React.ReactNode;
}) {
  if (share <= 0) return null;
  return (
    <span className={className} style={{ "--share": share } as CSSProperties}>
      {children && <span className="seg-label">{children}</span>}
    </span>
  );
}

function usedSegments(instance: Instance): { name: string; blocks: number }[] {
  const known = instance.classes
    .filter((load) => load.used_blocks > 0)
    .map((load) => ({ name: load.slo_class, blocks: load.used_blocks }));
  const rest = (instance.used_blocks ?? 0) - known.reduce((sum, each) => sum + each.blocks, 0);
  return rest > 0 ? [...known, { name: "standard", blocks: rest }] : known;
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
