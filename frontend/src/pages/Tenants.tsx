import { useMemo } from "react";
import { Link } from "react-router";
import { post } from "../api/client";
import type { BoostRow, TenantRow } from "../api/shapes";
import { useAttainment, useBoosts, useClasses, useLimits, useTenants } from "../api/tenants";
import { ActionButton } from "../components/ActionButton";
import { FilterField } from "../components/Choices";
import { ClassMark } from "../components/ClassMark";
import { useDialog } from "../components/dialogs/DialogProvider";
import { ProblemNote } from "../components/dialogs/Problem";
import { PriorityChart } from "../components/PriorityChart";
import { OverviewSkeleton } from "../components/Skeletons";
import { ClassPanel } from "../components/tenants/ClassPanel";
import { NewBoost, NewTenant } from "../components/tenants/forms";
import { Matrix } from "../components/tenants/Matrix";
import { TransferMenu } from "../components/tenants/TransferMenu";
import { byRank } from "../lib/fleet";
import { age, count, duration, percent, plural } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { tenantColor } from "../lib/tenants";
import { useUrlState } from "../lib/urlState";
import { useShown, useTopic } from "../live/context";
import type { LiveState } from "../live/reducer";
import { useMe } from "../session";

export default function Tenants() {
  const { state } = useShown();
  useTopic("requests");
  if (state === null) return <OverviewSkeleton />;
  return <Known state={state} />;
}

function Known({ state }: { state: LiveState }) {
  const tenants = useTenants();
  const classes = useClasses();
  const attainment = useAttainment();
  const limits = useLimits();
  const boosts = useBoosts();
  const narrow = useNarrow();
  const [text, setText] = useUrlState<string>("q", "");
  const [chosen, choose] = useUrlState<string>("class", "");
  const all = tenants.data ?? [];
  const rows = all.filter((row) => `${row.slug} ${row.name} ${row.slo_class}`.includes(text));
  const classRows = classes.data ?? [];
  return (
    <>
      <Head tenants={all} state={state} attainment={attainment.data ?? []} />
      <ProblemNote error={tenants.error ?? classes.error ?? limits.error ?? attainment.error} />
      <div className="row filters">
        <FilterField value={text} placeholder="Filter tenants" onChange={setText} />
        <span className="push">
          <TransferMenu />
        </span>
      </div>
      <div className="grid columns tenants-columns">
        <div className="side">
          <section className="card" aria-label="tenants">
            <div className="card-head">
              <h2>Tenants and classes</h2>
              <span className="t3">running now, share in target over 5 min; rates are means of 15 min</span>
            </div>
            {tenants.isPending || classes.isPending ? (
              <div className="skeleton" style={{ height: 200, margin: 14 }} />
            ) : rows.length === 0 ? (
              <p className="empty">
                {all.length
                  ? "No tenant matches the filter."
                  : "No tenant exists yet. Add the first one, then give it a key."}
              </p>
            ) : narrow ? (
              <TenantList rows={rows} state={state} />
            ) : (
              <Matrix
                tenants={rows}
                classes={classRows}
                attainment={attainment.data ?? []}
                limits={limits.data ?? []}
                state={state}
                chosenClass={chosen}
                onChooseClass={(name) => choose(name === chosen ? "" : name)}
              />
            )}
          </section>
          <PriorityChart classes={byRank(state)} />
        </div>
        <div className="side">
          {chosen ? (
            <ClassPanel
              key={chosen}
              name={chosen}
              usedBy={all.filter((row) => row.slo_class === chosen).map((row) => row.slug)}
              onClose={() => choose("")}
            />
          ) : (
            <ClassList state={state} onChoose={choose} />
          )}
          <Boosts rows={boosts.data ?? []} />
        </div>
      </div>
    </>
  );
}

function Head({
  tenants,
  state,
  attainment,
}: {
  tenants: readonly TenantRow[];
  state: LiveState;
  attainment: NonNullable<ReturnType<typeof useAttainment>["data"]>;
}) {
  const open = useDialog();
  const me = useMe();
  const classes = useClasses();
  const keys = tenants.reduce((sum, row) => sum + (row.keys ?? 0), 0);
  const worst = useMemo(() => mostHurt(attainment, state), [attainment, state]);
  return (
    <div className="page-head">
      <h1>Tenants</h1>
      <span className="t2">
        {tenants.length ? `${plural(tenants.length, "tenant")}, ${plural(keys, "key")}. ` : ""}
        {worst ?? "A tenant's class decides how its requests are served when they name none."}
      </span>
      <div className="actions">
        <ActionButton
          onClick={() =>
            open({
              kind: "form",
              content: (close) => (
                <NewBoost
                  tenants={tenants.map((row) => row.slug)}
                  tenant=""
                  classes={classes.data ?? []}
                  onClose={close}
                />
              ),
            })
          }
        >
          Boost a tenant until…
        </ActionButton>
        <ActionButton
          blocked={me.role === "admin" ? "" : "needs role admin"}
          onClick={() =>
            open({
              kind: "form",
              content: (close) => <NewTenant classes={classes.data ?? []} onClose={close} />,
            })
          }
        >
          Add tenant…
        </ActionButton>
      </div>
    </div>
  );
}

function mostHurt(
  rows: NonNullable<ReturnType<typeof useAttainment>["data"]>,
  state: LiveState,
): string | null {
  let worst: { text: string; gap: number } | null = null;
  for (const row of rows) {
    if (row.requests === 0) continue;
    const share = row.ttft_met / row.requests;
    const known = state.classes.get(row.slo_class);
    const gap = (known?.objective ?? 0.99) - share;
    if (gap > 0 && (worst === null || gap > worst.gap)) {
      worst = {
        gap,
        text: `${row.tenant ?? "somebody"} is hurt most: ${percent(share)} of its ${row.slo_class} requests start within ${duration(known?.ttft_target_ms)}.`,
      };
    }
  }
  return worst?.text ?? null;
}

function TenantList({ rows, state }: { rows: readonly TenantRow[]; state: LiveState }) {
  return (
    <ul className="fleet-list">
      {rows.map((row) => (
        <li key={row.slug}>
          <div className="row">
            <span className="swatch" style={{ background: tenantColor(state.tenants, row.slug) }} />
            <Link to={`/tenants/${row.slug}`} className="strong">
              {row.slug}
            </Link>{" "}
            <ClassMark name={row.slo_class} /> {row.slo_class}
            <span className="t3 detail push">{plural(row.recent.requests, "request")}</span>
          </div>
        </li>
      ))}
    </ul>
  );
}

function ClassList({ state, onChoose }: { state: LiveState; onChoose: (name: string) => void }) {
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
              <button type="button" className="btn small push" onClick={() => onChoose(row.name)}>
                Open {row.name}
              </button>
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

export function Boosts({ rows }: { rows: readonly BoostRow[] }) {
  const { now } = useShown();
  const open = useDialog();
  const inForce = rows.filter((row) => row.in_force);
  return (
    <section className="card" aria-label="boosts">
      <div className="card-head">
        <h2>Boosts</h2>
        <span className="aside">
          {inForce.length ? `${count(inForce.length)} in force` : "none in force"}
        </span>
      </div>
      {inForce.length === 0 ? (
        <p className="empty detail">
          A boost serves a tenant under a better class for a while, and ends by itself.
        </p>
      ) : (
        <ul className="class-list">
          {inForce.map((row) => (
            <li key={row.id}>
              <div className="row">
                <b>{row.tenant}</b> <ClassMark name={row.slo_class} /> {row.slo_class}
                <span className="t2">for {age(Date.parse(row.expires_at) / 1000 - now)} more</span>
                <ActionButton
                  className="small push"
                  onClick={() =>
                    open({
                      kind: "confirm",
                      title: `End the boost of ${row.tenant}?`,
                      text: "Its next requests are served under its own class again.",
                      verb: "End it now",
                      run: (reason) => post(`boosts/${row.id}/end`, { change_reason: reason }),
                      done: `The boost of ${row.tenant} has ended.`,
                      touches: ["tenants"],
                    })
                  }
                >
                  End…
                </ActionButton>
              </div>
              <div className="detail t3">
                by {row.granted_by}
                {row.reason ? `: ${row.reason}` : ""}
              </div>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
