import { memo } from "react";
import { Link } from "react-router";
import { FULL_SHARE, instanceLevel, stateWord, usedShare } from "../lib/fleet";
import { age, count, duration, percentNumber } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import { freshness } from "../live/freshness";
import type { Instance, Migration, Resident } from "../live/types";
import { Arcs } from "./Arcs";
import { PatternLegend } from "./ClassMark";
import { Mark } from "./Mark";
import { MemoryBar } from "./MemoryBar";

interface FleetProps {
  instances: readonly Instance[];
  moves: readonly Migration[];
  now: number;
  /** Who holds the memory, where it is known; else bars show classes. */
  residents?: ReadonlyMap<string, Resident>;
  tenants?: readonly string[];
  /** Beside other cards: no step times, wider bars. */
  brief?: boolean;
}

/** One row per instance: memory by request or class, load, freeness, state, age; arcs show moves as they happen. */
export function FleetTable({ instances, moves, now, residents, tenants = [], brief = false }: FleetProps) {
  const blocks = new Set(
    instances.flatMap((item) => (item.total_blocks === null ? [] : [item.total_blocks])),
  );
  const each = blocks.size === 1 ? `, ${count([...blocks][0])} blocks each` : "";
  return (
    <div className="fleet">
      <table>
        <colgroup>
          <col className="col-name" />
          <col />
          <col className="col-num" />
          <col className="col-freeness" />
          <col className="col-num" />
          <col className="col-num" />
          {!brief && <col className="col-num" />}
          <col className="col-state" />
          <col className="col-moving" />
        </colgroup>
        <thead>
          <tr>
            <th scope="col">Instance</th>
            <th scope="col">
              Memory by {residents?.size ? "request" : "class"}
              {each}
            </th>
            <th scope="col" className="num">
              Used
            </th>
            <th scope="col" className="num">
              Freeness
            </th>
            <th scope="col" className="num">
              Running
            </th>
            <th scope="col" className="num">
              Waiting
            </th>
            {!brief && (
              <th scope="col" className="num">
                Step
              </th>
            )}
            <th scope="col">State</th>
            <th scope="col">Moving</th>
          </tr>
        </thead>
        <tbody>
          {instances.map((instance) => (
            <FleetRow
              key={instance.id}
              instance={instance}
              now={now}
              requests={residents?.get(instance.id)?.requests}
              tenants={tenants}
              brief={brief}
            />
          ))}
        </tbody>
      </table>
      <Arcs order={instances.map((instance) => instance.id)} moves={moves} />
    </div>
  );
}

interface RowProps {
  brief: boolean;
  instance: Instance;
  now: number;
  requests: Resident["requests"] | undefined;
  tenants: readonly string[];
}

function FleetRow({ instance, now, requests, tenants, brief }: RowProps) {
  const level = instanceLevel(instance, now);
  const { freshness: kind, age: seconds } = freshness(instance.heard_at, now);
  const stale = kind === "stale";
  const share = usedShare(instance);
  return (
    <tr className={stale ? "is-stale" : ""} data-instance={instance.id}>
      <td>
        <span className="name-cell">
          {level === "good" ? <span style={{ width: 14 }} /> : <Mark shape={level} />}
          <Link to={`/instances/${instance.id}`} title={instance.id}>
            {instance.id}
          </Link>
        </span>
      </td>
      <td>
        <MemoryBar
          instance={instance}
          stale={stale || kind === "unknown"}
          requests={requests}
          tenants={tenants}
        />
      </td>
      <td className={`num strong ${stale ? "" : shareTone(share)}`}>
        {percentNumber(share)}
        {share !== null && <span className="t3">{"\u202f"}%</span>}
      </td>
      <td className={`num ${stale ? "" : freenessTone(instance)}`}>{count(instance.freeness)}</td>
      <td className="num">{count(instance.running)}</td>
      <td className={`num ${instance.waiting ? "strong" : "t3"}`}>{count(instance.waiting)}</td>
      {!brief && <td className="num t2">{duration(instance.step_ms)}</td>}
      <td className="nowrap detail">
        {stateWord(instance, now)}{" "}
        <span className={kind === "late" ? "warning" : "t3"}>
          {seconds === null ? "" : `${kind === "late" ? "late, " : ""}${age(seconds)}`}
        </span>
      </td>
      <td className="nowrap detail accent">{movingWords(instance)}</td>
    </tr>
  );
}

/** Below 720 px the table is a list: name, share, waiting, moving, and the bar under them. */
export function FleetList({ instances, now, residents, tenants = [] }: Omit<FleetProps, "moves" | "brief">) {
  return (
    <ul className="fleet-list">
      {instances.map((instance) => {
        const level = instanceLevel(instance, now);
        const { freshness: kind, age: seconds } = freshness(instance.heard_at, now);
        const stale = kind === "stale" || kind === "unknown";
        const share = usedShare(instance);
        return (
          <li key={instance.id}>
            <div className="row detail">
              {level !== "good" && <Mark shape={level} />}
              <Link to={`/instances/${instance.id}`} className="strong" style={{ color: "inherit" }}>
                {instance.id}
              </Link>
              <span className={stale ? "t3" : shareTone(share)}>
                {percentNumber(share)}
                {share !== null && "\u202f%"}
              </span>
              <span className="t3">
                {stale ? `${stateWord(instance, now)}${seconds === null ? "" : ` ${age(seconds)}`}` : ""}
                {!stale && instance.waiting ? `${count(instance.waiting)} waiting` : ""}
              </span>
              <span className="accent" style={{ marginLeft: "auto" }}>
                {movingWords(instance)}
              </span>
            </div>
            <MemoryBar
              instance={instance}
              stale={stale}
              requests={residents?.get(instance.id)?.requests}
              tenants={tenants}
            />
          </li>
        );
      })}
    </ul>
  );
}

interface LegendProps {
  classes: readonly string[];
  tenants?: readonly string[];
}

const NAMED_TENANTS = 12;

export const FleetLegend = memo(function FleetLegend({ classes, tenants = [] }: LegendProps) {
  return (
    <div className="legend">
      {tenants.slice(0, NAMED_TENANTS).map((slug) => (
        <span key={slug}>
          <span className="swatch" style={{ background: tenantColor(tenants, slug) }} /> {slug}
        </span>
      ))}
      <PatternLegend classes={classes} />
      <span className="t3">tick: 90{"\u202f"}% · freeness: decode steps until memory ends</span>
    </div>
  );
});

export function movingWords(instance: Instance): string {
  const parts = [];
  if (instance.migrations_out) parts.push(`${instance.migrations_out} out`);
  if (instance.migrations_in) parts.push(`${instance.migrations_in} in`);
  return parts.join(", ");
}

function shareTone(share: number | null): string {
  if (share === null) return "";
  return share >= 0.97 ? "critical" : share >= FULL_SHARE ? "warning" : "";
}

function freenessTone(instance: Instance): string {
  if (instance.freeness === null) return "";
  return instance.freeness < 0 ? "critical strong" : "";
}
