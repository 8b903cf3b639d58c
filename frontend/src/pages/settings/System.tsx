import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { get } from "../../api/client";
import type { components } from "../../api/schema";
import { type Column, DataTable } from "../../components/DataTable";
import { ProblemNote } from "../../components/dialogs/Problem";
import { FactList } from "../../components/FactList";
import { Mark } from "../../components/Mark";
import { age, count, fullTime, lasting, plural } from "../../lib/format";
import { useShown } from "../../live/context";

type Health = components["schemas"]["HealthOutput"];
type Degraded = components["schemas"]["DegradedOutput"];

const COLUMNS = (now: number): Column<Degraded>[] => [
  {
    head: "Part",
    className: "strong nowrap",
    cell: (row) => (
      <>
        <Mark shape="risk" size={12} /> {row.part}
      </>
    ),
  },
  { head: "What", cell: (row) => row.reason },
  {
    head: "Since",
    className: "nowrap t2",
    title: (row) => (row.since ? fullTime(Date.parse(row.since) / 1000) : undefined),
    cell: (row) => (row.since ? `${lasting(now - Date.parse(row.since) / 1000)}` : "before the console"),
  },
  { head: "Works", className: "t2", cell: (row) => row.works },
  { head: "On hold", className: "t2", cell: (row) => row.on_hold },
  { head: "Do", cell: (row) => row.do },
];

/** What is degraded, in the server's words: the same as for probes. */
function Parts({ rows, now }: { rows: readonly Degraded[]; now: number }) {
  return (
    <section className="card system-parts" aria-label="degraded parts">
      <div className="card-head">
        <h2>Degraded</h2>
        <span className="aside">{rows.length ? plural(rows.length, "part") : ""}</span>
      </div>
      {rows.length === 0 ? (
        <p className="empty">
          <Mark shape="good" /> No part is missing.
        </p>
      ) : (
        <DataTable columns={COLUMNS(now)} rows={rows} rowKey={(row) => row.part} />
      )}
    </section>
  );
}

/** What the console reaches, and where its documents are. */
export function System() {
  const { now } = useShown();
  const health = useQuery({
    queryKey: ["health"],
    queryFn: () => get<Health>("health"),
    refetchInterval: 5_000,
  });
  const found = health.data;
  return (
    <>
      {found && <Parts rows={found.degraded} now={now} />}
      <div className="grid split">
        <div>
          <ProblemNote error={health.error} />
          {found && (
            <FactList
              label="system"
              rows={[
                ["Database", found.database],
                ["Redis", found.redis],
                [
                  "Rebalancing loop",
                  found.loop?.leader
                    ? `${found.loop.leader}, epoch ${count(found.loop.epoch)}${found.loop.last_tick_at ? `, ticked ${age(now - Date.parse(found.loop.last_tick_at) / 1000)} ago` : ""}`
                    : "nobody leads",
                ],
                [
                  "Gateways",
                  found.gateways?.map((each) => `${each.gateway_id} ${each.url}`).join(", ") || "none",
                ],
                [
                  "Instances",
                  found.instances
                    ? `${count(found.instances.ready)} ready of ${count(found.instances.reported)} that reported`
                    : "–",
                ],
              ]}
            />
          )}
        </div>
        <section className="card card-body form">
          <h2 className="words-title">For scripts</h2>
          <p className="t2">
            Everything on these pages goes through the same API: <a href="/api/v1/schema">/api/v1/schema</a>{" "}
            describes it. Machine tokens are made by admins.
          </p>
          <h2 className="words-title">Something wrong?</h2>
          <p className="t2">
            <code className="mono">.venv/bin/python manage.py doctor</code> on the console's machine looks at
            database, Redis, loop, jobs, engines and gateways, and names what fails with what to do.{" "}
            <Link to="/docs/runbooks">Runbooks</Link> say what to do when an alert fires.
          </p>
        </section>
      </div>
    </>
  );
}
