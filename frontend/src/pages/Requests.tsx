import { Link } from "react-router";
import { FilterField, Picker, Segmented } from "../components/Choices";
import { Mark } from "../components/Mark";
import { FinishedTable } from "../components/request/FinishedTable";
import { RequestName } from "../components/request/RequestName";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { VirtualRows } from "../components/VirtualRows";
import { byRank } from "../lib/fleet";
import { age, count, lasting, plural, separated } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import {
  type Filters,
  filtered,
  isWaiting,
  type LiveRow,
  liveRows,
  type Order,
  orderedRows,
} from "../lib/requestRows";
import { useUrlState } from "../lib/urlState";
import { useShown, useTopic } from "../live/context";
import { useInstances } from "../live/pool";
import type { LiveState } from "../live/reducer";

type View = "live" | "finished";
const ORDERS = [
  ["age", "oldest first"],
  ["blocks", "most blocks"],
  ["tokens", "most tokens"],
  ["tenant", "tenant"],
] as const;

export default function Requests() {
  const { state } = useShown();
  useTopic("requests");
  if (state === null) return <OverviewSkeleton />;
  return <Known state={state} />;
}

function useFilters() {
  const [text, setText] = useUrlState<string>("q", "");
  const [status, setStatus] = useUrlState<string>("state", "");
  const [instance, setInstance] = useUrlState<string>("instance", "");
  const [tenant, setTenant] = useUrlState<string>("tenant", "");
  const [sloClass, setClass] = useUrlState<string>("class", "");
  const filters: Filters = { text, state: status, instance, tenant, sloClass };
  return { filters, setText, setStatus, setInstance, setTenant, setClass };
}

function Known({ state }: { state: LiveState }) {
  const { screenNow: now } = useShown();
  const instances = useInstances();
  const [view, setView] = useUrlState<View>("view", "live");
  const [order, setOrder] = useUrlState<Order>("order", "age");
  const { filters, setText, setStatus, setInstance, setTenant, setClass } = useFilters();
  const all = liveRows(state, instances);
  const waiting = all.filter(isWaiting);
  const oldest = waiting.reduce((least, row) => Math.min(least, row.arrivedAt), Number.POSITIVE_INFINITY);
  return (
    <>
      <div className="page-head">
        <h1>Requests</h1>
        <div className="stats">
          <Stat
            value={count(all.length - waiting.length)}
            unit="decoding"
            caption={`on ${plural(instances.length, "instance")}`}
          />
          <Stat
            value={count(waiting.length)}
            unit="waiting"
            caption={waiting.length ? `the longest for ${lasting(now - oldest)}` : "nobody waits"}
            tone={waiting.length ? "warning" : undefined}
          />
          <Stat
            value={count(all.filter((row) => row.migrationId).length)}
            unit="moving"
            caption="while they decode"
          />
        </div>
        <div className="actions">
          <Segmented
            label="Which requests"
            value={view}
            options={[
              ["live", "Live"],
              ["finished", "Finished"],
            ]}
            onChange={setView}
          />
        </div>
      </div>
      <div className="row filters">
        <FilterField value={filters.text} placeholder="Filter id, tenant, instance" onChange={setText} />
        {view === "live" ? (
          <Picker label="State" value={filters.state} options={STATES} onChange={setStatus} />
        ) : (
          <Picker label="Outcome" value={filters.state} options={OUTCOMES} onChange={setStatus} />
        )}
        <Picker
          label="Instance"
          value={filters.instance}
          options={anyOf(instances.map((item) => item.id))}
          onChange={setInstance}
        />
        <Picker label="Tenant" value={filters.tenant} options={anyOf(state.tenants)} onChange={setTenant} />
        <Picker
          label="Class"
          value={filters.sloClass}
          options={anyOf(byRank(state).map((row) => row.name))}
          onChange={setClass}
        />
        {view === "live" && <Picker label="Order" value={order} options={ORDERS} onChange={setOrder} />}
      </div>
      {view === "live" ? (
        <LiveTable
          rows={orderedRows(filtered(all, filters), order)}
          total={all.length}
          state={state}
          now={now}
        />
      ) : (
        <FinishedTable filters={filters} state={state} now={now} />
      )}
    </>
  );
}

const STATES = [
  ["", "any"],
  ["running", "decoding"],
  ["waiting", "waiting"],
  ["moving", "moving"],
] as const;
const OUTCOMES = [
  ["", "any"],
  ["stop", "stop"],
  ["length", "length"],
  ["abort", "aborted"],
  ["error", "error"],
] as const;

function anyOf(names: readonly string[]): (readonly [string, string])[] {
  return [["", "any"], ...names.map((name) => [name, name] as const)];
}

function LiveTable({
  rows,
  total,
  state,
  now,
}: {
  rows: LiveRow[];
  total: number;
  state: LiveState;
  now: number;
}) {
  const narrow = useNarrow();
  return (
    <section className="card" aria-label="live requests">
      <div className="card-head">
        <h2>Live</h2>
        <span className="t3">
          {count(rows.length)} of {count(total)}
        </span>
        <span className="aside">each second; prompts and answers are never shown</span>
      </div>
      {rows.length === 0 ? (
        <p className="empty">
          {total
            ? "No live request matches the filters."
            : "No request lives now. Send one, or start `make demo`."}
        </p>
      ) : (
        <VirtualRows
          label="live requests"
          rows={rows}
          rowKey={(row) => `${row.instance}/${row.requestId}`}
          rowHeight={narrow ? 52 : 30}
          columns={
            narrow
              ? "1fr auto"
              : "minmax(150px,1.4fr) 1fr 1fr 1.1fr 1fr 80px 80px 70px 70px minmax(120px,1.6fr)"
          }
          numbers={narrow ? [1] : [5, 6, 7, 8]}
          head={
            narrow
              ? ["Request", "Waits or lives"]
              : [
                  "Request",
                  "Tenant",
                  "Class",
                  "State",
                  "Instance",
                  "Prompt",
                  "Output",
                  "Blocks",
                  "Age",
                  "Why it waits",
                ]
          }
          render={(row) => (narrow ? narrowCells(row, state, now) : liveCells(row, state, now))}
        />
      )}
    </section>
  );
}

function liveCells(row: LiveRow, state: LiveState, now: number) {
  const move = row.migrationId ? state.migrations.get(row.migrationId) : undefined;
  return [
    <RequestName key="id" id={row.requestId} sloClass={row.sloClass} tenant={row.tenant} state={state} />,
    row.tenant || "–",
    row.sloClass,
    move && move.ended_at === null ? (
      <Link key="state" to={`/migrations/${move.id}`} className="nowrap">
        <Mark shape="moving" size={12} /> to {move.destination}
      </Link>
    ) : (
      <span key="state" className={isWaiting(row) ? "warning" : ""}>
        {row.state}
      </span>
    ),
    row.instance ? (
      <Link key="at" to={`/instances/${row.instance}`}>
        {row.instance}
      </Link>
    ) : (
      "in front"
    ),
    count(row.promptTokens),
    count(row.outputTokens),
    row.blocks ? count(row.blocks) : "–",
    age(now - row.arrivedAt),
    <span key="why" className="t2" title={row.why}>
      {separated(row.why)}
    </span>,
  ];
}

function narrowCells(row: LiveRow, state: LiveState, now: number) {
  return [
    <span key="id">
      <RequestName id={row.requestId} sloClass={row.sloClass} tenant={row.tenant} state={state} />
      <span className="caption block">
        {row.tenant} · {row.state} {row.instance && `· ${row.instance}`}
      </span>
    </span>,
    age(now - row.arrivedAt),
  ];
}
