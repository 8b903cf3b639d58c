import { useMediaQuery } from "@mantine/hooks";
import { useEffect, useRef, useState } from "react";
import { FilterField, Picker, Segmented } from "../components/Choices";
import { Legend } from "../components/cluster/Legend";
import { MapArcs } from "../components/cluster/MapArcs";
import { type Detail, type Fill, MapCell } from "../components/cluster/MapCell";
import { QueueCard } from "../components/cluster/QueueCard";
import { SelectionPanel } from "../components/cluster/SelectionPanel";
import { FleetList, FleetTable } from "../components/FleetTable";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { useAnnouncement } from "../lib/announce";
import { liveMoves, stateWord, totals, usedShare } from "../lib/fleet";
import { count, percentNumber, plural } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { waitingRequests } from "../lib/queue";
import { useUrlState } from "../lib/urlState";
import { useShown, useTopic } from "../live/context";
import { useInstances } from "../live/pool";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";

const FIELDS_UP_TO = 32;
const BARS_UP_TO = 256;
const GROUPS = [
  ["none", "nothing"],
  ["host", "node"],
  ["served_model", "model"],
  ["pool", "pool"],
  ["state", "state"],
] as const;
const FILLS = [
  ["tenant", "tenant"],
  ["class", "class"],
  ["used", "KV memory"],
  ["freeness", "freeness"],
  ["waiting", "waiting"],
  ["step", "step time"],
] as const;
type Group = (typeof GROUPS)[number][0];
type Size = "capacity" | "equal";

export default function Cluster() {
  const { state } = useShown();
  const instances = useInstances();
  useTopic("requests", instances.length > 0 && instances.length <= FIELDS_UP_TO);
  if (state === null) return <OverviewSkeleton />;
  return <Known state={state} instances={instances} />;
}

/** In the URL: the panel was closed. */
const NOBODY = "none";

function fullestOf(instances: readonly Instance[]): string {
  let best: Instance | null = null;
  for (const item of instances) {
    if (best === null || (usedShare(item) ?? 0) > (usedShare(best) ?? 0)) best = item;
  }
  return best?.id ?? "";
}

function Known({ state, instances }: { state: LiveState; instances: readonly Instance[] }) {
  const { screenNow: now } = useShown();
  const [view, setView] = useUrlState<"map" | "table">("view", "map");
  const [text, setText] = useUrlState<string>("q", "");
  const [group, setGroup] = useUrlState<Group>("group", "none");
  const [fill, setFill] = useUrlState<Fill>("fill", "tenant");
  const [size, setSize] = useUrlState<Size>("size", "capacity");
  const [highlight, setHighlight] = useUrlState<string>("tenant", "");
  const [arcs, setArcs] = useUrlState<"on" | "off">("moves", "on");
  const [asked, choose] = useUrlState<string>("selected", "");
  const roomy = useMediaQuery("(min-width: 1101px)", true, { getInitialValueInEffect: false });
  // Where to look first, found once: a panel that follows the load would jump under the pointer.
  const [fullest] = useState(() => fullestOf(instances));
  const chosen = asked || (roomy && view === "map" ? fullest : "");
  useTableKey(view, setView);
  const shown = instances.filter((item) =>
    `${item.id} ${item.host ?? ""} ${stateWord(item, now)} ${item.served_model}`.includes(text),
  );
  const moves = arcs === "on" ? liveMoves(state, now) : [];
  const selected = instances.find((item) => item.id === chosen);
  return (
    <>
      <Head state={state} instances={instances} now={now}>
        <Segmented
          label="Show as"
          value={view}
          options={[
            ["map", "Map"],
            ["table", "Table"],
          ]}
          onChange={setView}
        />
      </Head>
      <div className="row filters">
        <FilterField value={text} placeholder="Filter name, node, state" onChange={setText} />
        {view === "map" && (
          <>
            <Picker label="Group by" value={group} options={GROUPS} onChange={setGroup} />
            <Picker label="Fill by" value={fill} options={FILLS} onChange={setFill} />
            <Picker
              label="Size by"
              value={size}
              options={[
                ["capacity", "capacity"],
                ["equal", "nothing"],
              ]}
              onChange={setSize}
            />
          </>
        )}
        <Picker
          label="Highlight"
          value={highlight}
          options={[["", "no tenant"], ...state.tenants.map((slug) => [slug, slug] as const)]}
          onChange={setHighlight}
        />
        <label className="row switch">
          <input
            type="checkbox"
            checked={arcs === "on"}
            onChange={(event) => setArcs(event.currentTarget.checked ? "on" : "off")}
          />{" "}
          Moves
        </label>
        <span className="caption push">{blockWords(shown)}</span>
      </div>
      <div className={selected ? "grid columns cluster" : "cluster"}>
        <div className="side">
          {shown.length === 0 ? (
            <p className="card empty">
              {instances.length ? "No instance matches the filter." : "No instance has joined yet."}
            </p>
          ) : view === "map" ? (
            <MapView
              {...{ state, shown, moves, now, group, fill, size, highlight, chosen }}
              onSelect={(id) => choose(id === asked ? NOBODY : id)}
            />
          ) : (
            <TableView shown={shown} moves={moves} now={now} state={state} />
          )}
          <Legend
            state={state}
            highlight={highlight}
            onHighlight={setHighlight}
            byTenant={fill === "tenant"}
          />
        </div>
        {selected && (
          <SelectionPanel
            instance={selected}
            state={state}
            requests={state.residents.get(selected.id)?.requests}
            now={now}
            onClose={() => choose(NOBODY)}
          />
        )}
      </div>
      <Queue state={state} instances={instances} now={now} />
      <div className="visually-hidden" role="status">
        {useAnnouncement(state)}
      </div>
    </>
  );
}

function Head({
  state,
  instances,
  now,
  children,
}: {
  state: LiveState;
  instances: readonly Instance[];
  now: number;
  children: React.ReactNode;
}) {
  const sums = totals(instances, now);
  const moves = liveMoves(state, now);
  const wanted = mostWanted(state, instances, sums.wanted);
  const fits = wanted !== null && sums.largest !== null && sums.largest.tokens >= wanted.tokens;
  return (
    <div className="page-head">
      <h1>Cluster</h1>
      <div className="stats">
        <Stat
          value={sums.totalTokens ? percentNumber(sums.freeTokens / sums.totalTokens) : "–"}
          unit="%"
          caption={`free in total, ${count(sums.freeTokens)} tokens`}
        />
        <Stat
          value={sums.largest ? count(sums.largest.tokens) : "–"}
          unit="tokens"
          caption={`largest placeable request${sums.largest ? `, ${sums.largest.instance}` : ""}`}
        />
        {wanted && (
          <Stat
            value={count(wanted.tokens)}
            unit="tokens"
            caption={`wanted by the first in line${fits ? "" : "; fits nowhere now"}`}
            tone={fits ? undefined : "critical"}
          />
        )}
        <Stat value={count(sums.meanFreeness)} unit="steps" caption="mean freeness" />
        <Stat
          value={count(moves.length)}
          unit={moves.length === 1 ? "move" : "moves"}
          caption={`running, ${count(moves.reduce((sum, move) => sum + (move.tokens_at_start ?? 0), 0))} tokens`}
        />
      </div>
      <div className="actions">{children}</div>
    </div>
  );
}

function mostWanted(
  state: LiveState,
  instances: readonly Instance[],
  atInstances: { tokens: number; instance: string } | null,
): { tokens: number } | null {
  const first = waitingRequests(state, instances).filter((item) => !item.atInstance)[0];
  const tokens = Math.max(atInstances?.tokens ?? 0, first?.neededTokens ?? 0);
  return tokens > 0 ? { tokens } : null;
}

interface MapProps {
  state: LiveState;
  shown: readonly Instance[];
  moves: ReturnType<typeof liveMoves>;
  now: number;
  group: Group;
  fill: Fill;
  size: Size;
  highlight: string;
  chosen: string;
  onSelect: (id: string) => void;
}

const FIELD_PX = 116;

function MapView({ state, shown, moves, now, group, fill, size, highlight, chosen, onSelect }: MapProps) {
  const holder = useRef<HTMLDivElement>(null);
  const narrow = useNarrow();
  const detail: Detail =
    shown.length > BARS_UP_TO ? "square" : shown.length > FIELDS_UP_TO || narrow ? "bar" : "field";
  const capacity = (item: Instance) => (item.total_blocks ?? 0) * (item.block_size_tokens ?? 0);
  const largest = Math.max(1, ...shown.map(capacity));
  const groups = grouped(shown, group, now);
  const key = `${groups.map(([name, items]) => `${name}:${items.map((item) => item.id).join()}`).join("|")}${detail}${fill}${chosen}`;
  return (
    <div className={`map map-${detail}`} ref={holder}>
      {groups.map(([name, items]) => (
        <div key={name} className="map-group">
          {group !== "none" && (
            <div className="caption map-group-name">
              {name || "unknown"} · {plural(items.length, "instance")}
            </div>
          )}
          <div className="map-cells">
            {items.map((item) => (
              <MapCell
                key={item.id}
                instance={item}
                requests={state.residents.get(item.id)?.requests}
                tenants={state.tenants}
                now={now}
                fill={fill}
                detail={detail}
                highlight={highlight}
                selected={chosen === item.id}
                size={size === "capacity" ? Math.max(40, FIELD_PX * (capacity(item) / largest)) : FIELD_PX}
                onSelect={onSelect}
              />
            ))}
          </div>
        </div>
      ))}
      {!narrow && (
        <MapArcs
          holder={holder}
          moves={moves}
          tenants={state.tenants}
          blockSize={shown[0]?.block_size_tokens ?? null}
          layoutKey={key}
        />
      )}
    </div>
  );
}

function grouped(shown: readonly Instance[], group: Group, now: number): [string, Instance[]][] {
  if (group === "none") return [["", [...shown]]];
  const groups = new Map<string, Instance[]>();
  for (const item of shown) {
    const name = group === "state" ? stateWord(item, now) : (item[group] ?? "");
    groups.set(name, [...(groups.get(name) ?? []), item]);
  }
  return [...groups].sort(([a], [b]) => a.localeCompare(b));
}

/** The map's twin: the same instances and numbers as a table. */
function TableView({
  shown,
  moves,
  now,
  state,
}: {
  shown: readonly Instance[];
  moves: ReturnType<typeof liveMoves>;
  now: number;
  state: LiveState;
}) {
  const narrow = useNarrow();
  return (
    <section className="card" aria-label="instances as a table">
      {narrow ? (
        <FleetList instances={shown} now={now} residents={state.residents} tenants={state.tenants} />
      ) : (
        <div className="scroll-x">
          <div className="fleet-wide">
            <FleetTable
              instances={shown}
              moves={moves}
              now={now}
              residents={state.residents}
              tenants={state.tenants}
            />
          </div>
        </div>
      )}
    </section>
  );
}

function Queue({ state, instances, now }: { state: LiveState; instances: readonly Instance[]; now: number }) {
  const sums = totals(instances, now);
  const inFront = [...state.gateways.values()].reduce((sum, gateway) => sum + gateway.queued, 0);
  return (
    <QueueCard
      waiting={waitingRequests(state, instances)}
      total={sums.waiting + inFront}
      largest={sums.largest?.tokens ?? null}
      tenants={state.tenants}
      now={now}
    />
  );
}

function blockWords(shown: readonly Instance[]): string {
  const size = shown[0]?.block_size_tokens;
  return size ? `one block = ${count(size)} tokens` : "";
}

/** `t` changes between the map and its twin. */
function useTableKey(view: "map" | "table", setView: (view: "map" | "table") => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select");
      if (event.key !== "t" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
      setView(view === "map" ? "table" : "map");
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [view, setView]);
}
