import { lazy, Suspense } from "react";
import { Link, useParams } from "react-router";
import { post } from "../api/client";
import { useLiveRequests } from "../api/requests";
import type { LiveRequest } from "../api/types";
import { ActionButton } from "../components/ActionButton";
import { AgeLabel } from "../components/AgeLabel";
import { BlockField, FieldFoot } from "../components/BlockField";
import { DrainFacts } from "../components/DrainFacts";
import { type DialogCall, useDialog } from "../components/dialogs/DialogProvider";
import { ProblemNote } from "../components/dialogs/Problem";
import { FactList } from "../components/FactList";
import { InstanceExtras } from "../components/InstanceExtras";
import { Mark } from "../components/Mark";
import { RequestTable } from "../components/RequestTable";
import { OverviewSkeleton } from "../components/Skeletons";
import { drainImpact } from "../lib/drain";
import { instanceLevel, isDraining, stateWord } from "../lib/fleet";
import { bytes, count, duration, fixed } from "../lib/format";
import { useShown } from "../live/context";
import { freshness } from "../live/freshness";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";

const Timelines = lazy(() => import("../charts/Timelines"));

export default function InstancePage() {
  const { id = "" } = useParams();
  const { state } = useShown();
  if (state === null) return <OverviewSkeleton />;
  const instance = state.instances.get(id);
  if (!instance) {
    return (
      <div className="card empty">
        <h1 className="strong">{id} is not part of the fleet now.</h1>
        <p className="t2">
          It may have been stopped. <Link to="/audit">The audit list</Link> says by whom and why;{" "}
          <Link to="/instances">these instances</Link> are here.
        </p>
      </div>
    );
  }
  return <Known instance={instance} state={state} />;
}

function Known({ instance, state }: { instance: Instance; state: LiveState }) {
  const { screenNow: now, pausedAt } = useShown();
  const stale = ["stale", "unknown"].includes(freshness(instance.heard_at, now).freshness);
  const live = useLiveRequests(instance.id, pausedAt === null && !stale ? 1_000 : false);
  const requests = sortedRequests(live.data?.requests ?? []);
  return (
    <>
      <Head instance={instance} now={now} stale={stale} />
      <div className="grid instance-top">
        <section className="card" aria-label="memory by request">
          <div className="card-head">
            <h2>Memory by request</h2>
            <span className="aside">
              {instance.total_blocks === null
                ? "no report yet"
                : `${count(instance.total_blocks)} blocks of ${count(instance.block_size_tokens)} tokens`}
            </span>
          </div>
          <div className="card-body">
            <BlockField
              instance={instance}
              requests={requests}
              tenants={state.tenants}
              stale={stale}
              height={300}
              numbered
            />
            <FieldFoot instance={instance} />
          </div>
        </section>
        <section className="card" aria-label="requests">
          <div className="card-head">
            <h2>Requests</h2>
            <span className="t3">
              {count(instance.running)} running, {count(instance.waiting)} waiting
            </span>
            <span className="aside">
              sorted by blocks
              {live.data ? (
                <>
                  {" "}
                  · <AgeLabel heardAt={live.data.askedAt} now={now} />
                </>
              ) : null}
            </span>
          </div>
          {live.error ? (
            <div className="card-body">
              <ProblemNote error={live.error} />
            </div>
          ) : (
            <RequestTable
              instanceId={instance.id}
              requests={requests}
              instance={instance}
              state={state}
              loading={live.data?.requests == null}
            />
          )}
        </section>
      </div>
      <div className="grid columns">
        <section className="card" aria-label="last 15 minutes">
          <div className="card-head">
            <h2>Last 15 min</h2>
            <span className="aside">since this console started at most; moves are marked ▼ out, △ in</span>
          </div>
          <Suspense fallback={<div className="skeleton" style={{ height: 320, margin: 14 }} />}>
            <Timelines instance={instance} migrations={state.migrations} />
          </Suspense>
        </section>
        <div className="side">
          <DrainCard instance={instance} state={state} now={now} />
          <Facts instance={instance} />
        </div>
      </div>
      <InstanceExtras instance={instance} now={now} />
    </>
  );
}

function Head({ instance, now, stale }: { instance: Instance; now: number; stale: boolean }) {
  const open = useDialog();
  const level = instanceLevel(instance, now);
  const draining = isDraining(instance);
  const silent = stale ? "it does not report" : "";
  return (
    <div className="page-head instance-head">
      <span className="t3">
        <Link to="/instances" className="t3">
          Instances
        </Link>{" "}
        /
      </span>
      <h1>{instance.id}</h1>
      {level === "hurt" && (
        <span className="tag critical">
          <Mark shape="hurt" size={12} /> overloaded
        </span>
      )}
      {level === "risk" && (
        <span className="tag warning">
          <Mark shape="risk" size={12} /> nearly full
        </span>
      )}
      <span className={`tag ${draining ? "accent" : stale ? "dashed" : ""}`}>{stateWord(instance, now)}</span>
      {instance.engine === "simulated" && <span className="tag dashed">simulated</span>}
      <span className="detail t3">
        {[instance.host, instance.pid ? `pid ${instance.pid}` : null, instance.served_model]
          .filter(Boolean)
          .join(" · ")}
      </span>
      <AgeLabel heardAt={instance.heard_at} now={now} word />
      <div className="actions">
        <ActionButton blocked={silent} onClick={() => open({ kind: "migrate", sourceId: instance.id })}>
          Migrate a request…
        </ActionButton>
        {draining ? (
          <ActionButton onClick={() => open({ kind: "undrain", instanceId: instance.id })}>
            Undrain {instance.id}…
          </ActionButton>
        ) : (
          <ActionButton onClick={() => open({ kind: "drain", instanceId: instance.id })}>
            Drain {instance.id}…
          </ActionButton>
        )}
        <ActionButton onClick={() => open(restartCall(instance, impactWords(instance)))}>
          Restart {instance.id}…
        </ActionButton>
        <ActionButton className="danger" onClick={() => open(stopCall(instance))}>
          Terminate {instance.id}…
        </ActionButton>
      </div>
    </div>
  );
}

function impactWords(instance: Instance): string {
  const here = (instance.running ?? 0) + (instance.waiting ?? 0);
  return here
    ? `${count(here)} requests move away first, while they decode; none is dropped.`
    : "It is empty now.";
}

function restartCall(instance: Instance, impact: string): DialogCall {
  return {
    kind: "confirm",
    title: `Restart ${instance.id}?`,
    text: `It is drained, its engine starts anew with the pool's present arguments, and it takes requests again once it is warm. ${impact}`,
    verb: `Restart ${instance.id}`,
    run: (reason) => post(`instances/${instance.id}/restart`, { change_reason: reason }),
    done: `${instance.id} is drained and then started again.`,
    touches: ["instances", "operations"],
  };
}

function stopCall(instance: Instance): DialogCall {
  const here = (instance.running ?? 0) + (instance.waiting ?? 0);
  return {
    kind: "confirm",
    title: `Terminate ${instance.id}?`,
    text: here
      ? `Its engine ends at once. ${count(here)} requests on it are continued elsewhere from their tokens: each client sees a pause while they are recomputed, and loses nothing. Draining would move them without that.`
      : "Its engine ends at once. Nothing runs on it now.",
    verb: `Terminate ${instance.id}`,
    danger: true,
    typeName: instance.id,
    run: (reason) => post(`instances/${instance.id}/stop`, { change_reason: reason }),
    done: `${instance.id} is being terminated.`,
    touches: ["instances", "operations"],
  };
}

function DrainCard({ instance, state, now }: { instance: Instance; state: LiveState; now: number }) {
  if (isDraining(instance)) {
    const left = (instance.running ?? 0) + (instance.waiting ?? 0);
    return (
      <section className="card">
        <div className="card-head">
          <h2>Draining</h2>
        </div>
        <div className="card-body t2">
          {left
            ? `${count(left)} requests are still here; they move away while they decode.`
            : "Empty: it can be stopped without any loss."}
          {instance.cause && <div className="detail t3">{instance.cause}</div>}
        </div>
      </section>
    );
  }
  return (
    <section className="card">
      <div className="card-head">
        <h2>If you drain {instance.id}</h2>
      </div>
      <div className="card-body form">
        <DrainFacts id={instance.id} impact={drainImpact(state, instance, now)} />
      </div>
    </section>
  );
}

function Facts({ instance }: { instance: Instance }) {
  const perBlock =
    instance.kv_bytes_per_token === null || instance.block_size_tokens === null
      ? null
      : instance.kv_bytes_per_token * instance.block_size_tokens;
  const rows: [string, string][] = [
    ["Freeness", instance.freeness === null ? "–" : `${count(instance.freeness)} steps`],
    ["Decode step", duration(instance.step_ms)],
    ["Tokens per second", fixed(instance.tokens_per_s, 0)],
    ["Preempted since start", count(instance.preemptions_total)],
    [
      "First in line needs",
      instance.head_of_line_blocks === null ? "–" : `${count(instance.head_of_line_blocks)} blocks`,
    ],
    [
      "KV memory",
      perBlock === null || instance.total_blocks === null ? "–" : bytes(perBlock * instance.total_blocks),
    ],
    ["Migration slots", count(instance.migration_slots)],
    ["Engine", [instance.engine, instance.engine_version].filter(Boolean).join(" ") || "–"],
    ["Incarnation", instance.incarnation?.slice(0, 12) ?? "–"],
    ["Obeys lease epoch", count(instance.lease_epoch)],
  ];
  return <FactList rows={rows} />;
}

function sortedRequests(requests: readonly LiveRequest[]): LiveRequest[] {
  return [...requests].sort((a, b) => b.blocks - a.blocks || a.request_id.localeCompare(b.request_id));
}
