import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { get, type Page } from "../api/client";
import { type Pool, usePools } from "../api/scheduling";
import type { Transition } from "../api/shapes";
import { bytes, fullTime, moment } from "../lib/format";
import type { Instance } from "../live/types";
import { Picker, Segmented } from "./Choices";
import { ProblemNote } from "./dialogs/Problem";

type View = "log" | "arguments" | "states";

/** What else is known of an instance: its log, the arguments of its engine, its states so far. */
export function InstanceExtras({ instance, now }: { instance: Instance; now: number }) {
  const [view, setView] = useState<View>("log");
  return (
    <section className="card" aria-label="engine">
      <div className="card-head">
        <h2>Engine</h2>
        <span className="aside">
          <Segmented
            label="Show"
            value={view}
            options={[
              ["log", "Log"],
              ["arguments", "Arguments"],
              ["states", "States"],
            ]}
            onChange={setView}
          />
        </span>
      </div>
      {view === "log" && <Log id={instance.id} />}
      {view === "arguments" && <Arguments pool={instance.pool} />}
      {view === "states" && <States id={instance.id} now={now} />}
    </section>
  );
}

const TAILS = [
  ["100", "100 lines"],
  ["400", "400 lines"],
  ["1000", "1,000 lines"],
] as const;

function Log({ id }: { id: string }) {
  const [tail, setTail] = useState<(typeof TAILS)[number][0]>("100");
  const log = useQuery({
    queryKey: ["instances", id, "log", tail],
    queryFn: () => get<{ log: string }>(`instances/${id}/log?tail=${tail}`),
    refetchInterval: 5_000,
  });
  return (
    <>
      <div className="card-body row">
        <Picker label="Last" value={tail} options={TAILS} onChange={setTail} />
        <span className="caption">asked again every 5 s</span>
      </div>
      <ProblemNote error={log.error} />
      {log.data && <pre className="log">{log.data.log || "The log is empty."}</pre>}
    </>
  );
}

function Arguments({ pool }: { pool: string }) {
  const pools = usePools();
  const row = pools.data?.results.find((each) => each.name === pool);
  if (pools.error) return <ProblemNote error={pools.error} />;
  if (!row) return <div className="skeleton" style={{ height: 120, margin: 14 }} />;
  return (
    <dl className="facts card-body">
      {argumentRows(row).map(([name, value]) => (
        <div key={name}>
          <dt className="t3">{name}</dt>
          <dd className="mono">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function argumentRows(row: Pool): [string, string][] {
  const own = Object.entries({ ...row.engine_args, ...row.migration_args }).map(
    ([name, value]): [string, string] => [name, typeof value === "string" ? value : JSON.stringify(value)],
  );
  return [
    ["served model", row.served_model],
    ["model", row.model_path],
    ["engine", row.engine ?? "–"],
    ...(row.kv_memory_bytes ? ([["KV memory", bytes(row.kv_memory_bytes)]] as [string, string][]) : []),
    ...own,
  ];
}

function States({ id, now }: { id: string; now: number }) {
  const found = useQuery({
    queryKey: ["instances", id, "transitions"],
    queryFn: async () => (await get<Page<Transition>>(`instances/${id}/transitions?limit=30`)).results,
    refetchInterval: 10_000,
  });
  return (
    <>
      <ProblemNote error={found.error} />
      <ul className="class-list">
        {(found.data ?? []).map((row) => {
          const at = Date.parse(row.at) / 1000;
          return (
            <li key={`${row.at}${row.state}`} className="detail">
              <span className="t3" title={fullTime(at)}>
                {moment(at, now)}
              </span>{" "}
              {row.previous || "new"} → <b>{row.state}</b> <span className="t2">{row.cause}</span>{" "}
              <span className="t3">by {row.actor}</span>
            </li>
          );
        })}
        {found.data?.length === 0 && <li className="t2">No change was recorded.</li>}
      </ul>
    </>
  );
}
