import { useQuery } from "@tanstack/react-query";
import { get, type Page } from "../api/client";
import type { Tenant } from "../api/types";
import { ActionButton } from "../components/ActionButton";
import { ClassMark } from "../components/ClassMark";
import { useDialog } from "../components/dialogs/DialogProvider";
import { ProblemNote } from "../components/dialogs/Problem";
import { PriorityChart } from "../components/PriorityChart";
import { OverviewSkeleton } from "../components/Skeletons";
import { byRank } from "../lib/fleet";
import { count, duration, plural } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { tenantColor } from "../lib/tenants";
import { useShown } from "../live/context";
import type { LiveState } from "../live/reducer";

export default function Tenants() {
  const { state } = useShown();
  const tenants = useQuery({
    queryKey: ["tenants"],
    queryFn: () => get<Page<Tenant>>("tenants?limit=200"),
    refetchInterval: 5_000,
  });
  if (state === null) return <OverviewSkeleton />;
  const rows = tenants.data?.results ?? [];
  const keys = rows.reduce((sum, row) => sum + row.keys, 0);
  return (
    <>
      <div className="page-head">
        <h1>Tenants</h1>
        <span className="t2">
          {tenants.data ? `${plural(rows.length, "tenant")}, ${plural(keys, "key")}.` : ""} A tenant's class
          decides how its requests are served when they name none.
        </span>
      </div>
      <ProblemNote error={tenants.error} />
      <div className="grid columns">
        <section className="card" aria-label="tenants">
          <div className="card-head">
            <h2>Tenants and classes</h2>
            <span className="aside">usage of the last 15 min</span>
          </div>
          {tenants.isPending ? (
            <div className="skeleton" style={{ height: 200, margin: 14 }} />
          ) : rows.length === 0 ? (
            <p className="empty">No tenant exists yet. `manage.py` or the admin page makes the first one.</p>
          ) : (
            <TenantRows rows={rows} state={state} />
          )}
        </section>
        <div className="side">
          <ClassList state={state} />
        </div>
      </div>
      <PriorityChart classes={byRank(state)} />
    </>
  );
}

function TenantRows({ rows, state }: { rows: readonly Tenant[]; state: LiveState }) {
  const narrow = useNarrow();
  if (narrow) {
    return (
      <ul className="fleet-list">
        {rows.map((row) => (
          <li key={row.slug}>
            <div className="row">
              <span className="swatch" style={{ background: tenantColor(state.tenants, row.slug) }} />
              <b>{row.slug}</b> <ClassMark name={row.slo_class} /> {row.slo_class}
              <span className="t3 detail">{plural(row.recent.requests, "request")}</span>
            </div>
            <ChangeButton row={row} />
          </li>
        ))}
      </ul>
    );
  }
  return (
    <div className="scroll-x">
      <table className="table">
        <thead>
          <tr>
            <th>Tenant</th>
            <th>Class</th>
            <th>May also ask for</th>
            <th className="num">Keys</th>
            <th className="num">Requests</th>
            <th className="num">Tokens in</th>
            <th className="num">Tokens out</th>
            <th className="num">TTFT mean</th>
            <th>
              <span className="visually-hidden">Action</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.slug} className={row.active ? "" : "t3"}>
              <td className="nowrap">
                <span className="swatch" style={{ background: tenantColor(state.tenants, row.slug) }} />{" "}
                {row.slug}
                {row.active ? "" : " (closed)"}
              </td>
              <td className="nowrap strong">
                <ClassMark name={row.slo_class} color={tenantColor(state.tenants, row.slug)} />{" "}
                {row.slo_class}
              </td>
              <td className="t2">
                {row.allowed_classes.filter((name) => name !== row.slo_class).join(", ") || "nothing else"}
              </td>
              <td className="num">{count(row.keys)}</td>
              <td className="num">{count(row.recent.requests)}</td>
              <td className="num">{count(row.recent.prompt_tokens)}</td>
              <td className="num">{count(row.recent.output_tokens)}</td>
              <td className="num">{duration(row.recent.ttft_mean_ms)}</td>
              <td className="num">
                <ChangeButton row={row} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function ChangeButton({ row }: { row: Tenant }) {
  const open = useDialog();
  return (
    <ActionButton
      className="small"
      onClick={() =>
        open({ kind: "class", tenant: row.slug, current: row.slo_class, allowed: row.allowed_classes })
      }
    >
      Change class…
    </ActionButton>
  );
}

function ClassList({ state }: { state: LiveState }) {
  return (
    <section className="card" aria-label="classes">
      <div className="card-head">
        <h2>Classes</h2>
        <span className="aside">served in this order</span>
      </div>
      <ul className="class-list">
        {byRank(state).map((row) => (
          <li key={row.name}>
            <div className="row">
              <ClassMark name={row.name} /> <b>{row.name}</b> <span className="t3">rank {row.rank}</span>
            </div>
            <div className="detail t2">
              {row.ttft_target_ms === null
                ? "No target for the first token"
                : `First token ${duration(row.ttft_target_ms)}`}
              ,{" "}
              {row.tpot_target_ms === null
                ? "none for the next ones"
                : `${duration(row.tpot_target_ms)} per token`}
              .{" "}
              {row.target_load_tokens === null
                ? "Keeps no memory free."
                : `Others fill an instance that hosts it up to ${count(row.target_load_tokens)} tokens.`}
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}
