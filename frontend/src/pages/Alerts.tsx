import { Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { useAlerts } from "../api/alerts";
import { get, type Page, post } from "../api/client";
import type { Alert } from "../api/shapes";
import type { AuditEntry } from "../api/types";
import { ActionButton } from "../components/ActionButton";
import { useDialog } from "../components/dialogs/DialogProvider";
import { FormDialog } from "../components/dialogs/FormDialog";
import { ProblemNote } from "../components/dialogs/Problem";
import { ReasonField } from "../components/dialogs/Reason";
import { Mark } from "../components/Mark";
import { age, capital, clock, count, fullTime, lasting, moment, separated } from "../lib/format";
import { useShown } from "../live/context";

const AUDITED = 6;

export default function Alerts() {
  const { now } = useShown();
  const alerts = useAlerts();
  const rows = alerts.data ?? [];
  const firing = rows.filter((row) => row.state === "firing").sort(worstFirst);
  const ended = rows.filter((row) => row.state === "resolved");
  return (
    <>
      <div className="page-head">
        <h1>Alerts</h1>
        <span className="t2">
          {alerts.data
            ? firing.length
              ? `${count(firing.length)} firing, ${count(firing.filter((row) => row.acknowledged_by).length)} acknowledged.`
              : "Nothing fires."
            : ""}
        </span>
        <div className="actions">
          <Link className="btn" to="/settings/rules">
            Rules and webhooks
          </Link>
        </div>
      </div>
      <ProblemNote error={alerts.error} />
      <section aria-label="firing" className="grid alerts">
        {alerts.isPending && <div className="skeleton" style={{ height: 90 }} />}
        {alerts.data && firing.length === 0 && (
          <p className="card empty">
            <Mark shape="good" /> No alert fires. Rules watch classes, instances, queues, the loop and quotas.
          </p>
        )}
        {firing.map((row) => (
          <FiringCard key={row.id} row={row} now={now} />
        ))}
      </section>
      <div className="grid columns">
        <section className="card" aria-label="ended alerts">
          <div className="card-head">
            <h2>Ended</h2>
          </div>
          {ended.length === 0 ? (
            <p className="empty">None yet.</p>
          ) : (
            <ul className="class-list">
              {ended.map((row) => (
                <Ended key={row.id} row={row} now={now} />
              ))}
            </ul>
          )}
        </section>
        <LastActions now={now} />
      </div>
    </>
  );
}

function worstFirst(a: Alert, b: Alert): number {
  const rank = (row: Alert) => (row.severity === "critical" ? 0 : row.severity === "warning" ? 1 : 2);
  return rank(a) - rank(b) || a.started_at.localeCompare(b.started_at);
}

function FiringCard({ row, now }: { row: Alert; now: number }) {
  const open = useDialog();
  const since = Date.parse(row.started_at) / 1000;
  const quiet = row.silenced;
  return (
    <article className={`card alert severity-${row.severity} ${quiet ? "is-quiet" : ""}`}>
      <Mark shape={row.severity === "critical" ? "hurt" : "risk"} size={16} />
      <div className="alert-words">
        <h2>{capital(separated(row.summary || `${row.rule}: ${row.subject}`))}</h2>
        <p className="detail t2">
          {row.subject || "the fleet"} · for {lasting(now - since)}, since {clock(since)} UTC
          {row.acknowledged_by && ` · acknowledged by ${row.acknowledged_by}`}
          {quiet && " · silenced"}
          {row.runbook_url && (
            <>
              {" "}
              · <RunbookLink to={row.runbook_url} />
            </>
          )}
        </p>
      </div>
      <div className="row alert-actions">
        <ActionButton
          blocked={row.acknowledged_by ? "acknowledged" : ""}
          onClick={() =>
            open({
              kind: "confirm",
              title: "Acknowledge this alert?",
              text: `Others see that you look after it: ${row.summary || row.rule}.`,
              verb: "Acknowledge",
              run: (reason) => post(`alerts/${row.id}/ack`, { change_reason: reason }),
              done: "Acknowledged.",
              touches: ["alerts"],
            })
          }
        >
          Acknowledge
        </ActionButton>
        <ActionButton
          onClick={() => open({ kind: "form", content: (close) => <Silence row={row} onClose={close} /> })}
        >
          Silence…
        </ActionButton>
      </div>
    </article>
  );
}

function RunbookLink({ to }: { to: string }) {
  return to.startsWith("http") ? (
    <a href={to} rel="noreferrer" target="_blank">
      Runbook ↗
    </a>
  ) : (
    <Link to={to}>Runbook</Link>
  );
}

const SILENCES = [
  ["900", "15 min"],
  ["3600", "1 h"],
  ["28800", "8 h"],
  ["86400", "1 day"],
] as const;

function Silence({ row, onClose }: { row: Alert; onClose: () => void }) {
  const [length, setLength] = useState("3600");
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title="Silence this alert"
      verb="Silence"
      onClose={onClose}
      run={() =>
        post(`alerts/${row.id}/silence`, {
          ends_at: new Date(Date.now() + Number(length) * 1000).toISOString(),
          change_reason: reason,
        })
      }
      done={() => "Silent for now; it still shows here."}
      touches={["alerts"]}
    >
      {() => (
        <>
          <p className="t2">Webhooks stay quiet about it; this page goes on showing it.</p>
          <Select
            label="For"
            data={SILENCES.map(([value, label]) => ({ value, label }))}
            value={length}
            onChange={(value) => setLength(value ?? "3600")}
            allowDeselect={false}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

function Ended({ row, now }: { row: Alert; now: number }) {
  const [from, to] = [Date.parse(row.started_at) / 1000, Date.parse(row.resolved_at ?? row.seen_at) / 1000];
  return (
    <li className="row">
      <span className="t3 nowrap" title={fullTime(from)}>
        {moment(from, now)}
      </span>
      <span>{row.summary || `${row.rule}: ${row.subject}`}</span>
      <span className="t3 push nowrap">{age(to - from)}</span>
    </li>
  );
}

function LastActions({ now }: { now: number }) {
  const audit = useQuery({
    queryKey: ["audit", "last"],
    queryFn: async () => (await get<Page<AuditEntry>>(`audit?limit=${AUDITED}`)).results,
    refetchInterval: 10_000,
  });
  return (
    <section className="card" aria-label="last actions">
      <div className="card-head">
        <h2>Last actions</h2>
        <Link className="aside" to="/audit">
          Audit
        </Link>
      </div>
      <ul className="class-list">
        {(audit.data ?? []).map((row) => (
          <li key={row.id} className="detail">
            <span className="t3">{moment(Date.parse(row.at) / 1000, now)}</span> <b>{row.actor}</b>{" "}
            {row.action.replaceAll(/[._]/g, " ")} <span className="mono">{row.object_id}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
