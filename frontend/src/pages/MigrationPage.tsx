import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { getMigration } from "../api/migrations";
import { type Column, DataTable } from "../components/DataTable";
import { ProblemNote } from "../components/dialogs/Problem";
import { FactList } from "../components/FactList";
import { OutcomeWords } from "../components/HistoryTable";
import { MoveLane } from "../components/MoveLane";
import { bytes, count, duration, fullTime } from "../lib/format";
import { bytesOf, ruleWords, splitStages } from "../lib/words";
import { useShown } from "../live/context";
import type { Migration } from "../live/types";

/** One move: live while it runs, from the history afterwards. */
export default function MigrationPage() {
  const { id = "" } = useParams();
  const { state, screenNow: now } = useShown();
  const live = state?.migrations.get(id);
  const stored = useQuery({
    queryKey: ["migrations", id],
    queryFn: () => getMigration(id),
    enabled: !live || live.ended_at !== null,
    retry: false,
  });
  const move = live ?? stored.data;
  return (
    <>
      <div className="page-head">
        <span className="t3">
          <Link to="/migrations" className="t3">
            Migrations
          </Link>{" "}
          /
        </span>
        <h1 className="mono">{id}</h1>
        {move && move.ended_at !== null && <OutcomeWords move={move} />}
      </div>
      {!move && <ProblemNote error={stored.error} />}
      {move && (
        <>
          <section className="card" aria-label="stages">
            <MoveLane
              move={move}
              tenants={state?.tenants ?? []}
              now={now}
              limitMs={state?.classes.get(move.slo_class)?.tpot_target_ms ?? null}
            />
          </section>
          <div className="grid columns">
            <StageTable move={move} />
            <Facts move={move} asked={stored.data?.actor || move.actor} />
          </div>
        </>
      )}
    </>
  );
}

interface StageRow {
  name: string;
  blocks: number | undefined;
  bytes: number | undefined;
  duration_ms: number | null;
  tokens_meanwhile: number | null;
}

const STAGE_COLUMNS: Column<StageRow>[] = [
  { head: "Stage", cell: (row) => row.name },
  { head: "Blocks", num: true, cell: (row) => count(row.blocks) },
  { head: "Size", num: true, cell: (row) => bytes(row.bytes) },
  { head: "Time", num: true, cell: (row) => duration(row.duration_ms) },
  { head: "Tokens made meanwhile", num: true, cell: (row) => count(row.tokens_meanwhile) },
];

function StageTable({ move }: { move: Migration }) {
  const { copies, handOver } = splitStages(move);
  const rows: StageRow[] = [
    ...copies.map((stage) => ({ name: `stage ${stage.stage}`, ...stage })),
    {
      name: "freeze, hand over",
      blocks: handOver?.blocks,
      bytes: handOver?.bytes,
      duration_ms: move.downtime_ms,
      tokens_meanwhile: move.state === "done" ? 0 : null,
    },
  ];
  return (
    <section className="card" aria-label="stages as a table">
      <div className="card-head">
        <h2>Stages</h2>
        <span className="aside">as measured by {move.source}</span>
      </div>
      <DataTable columns={STAGE_COLUMNS} rows={rows} rowKey={(row) => row.name} />
    </section>
  );
}

function Facts({ move, asked }: { move: Migration; asked: string }) {
  const rows: [string, string][] = [
    ["Why", [ruleWords(move), move.why].filter(Boolean).join(": ")],
    ["Asked by", asked || "–"],
    ["Request", move.request_id],
    ["Started", fullTime(move.started_at)],
    ["Ended", fullTime(move.ended_at)],
    ["Tokens at the start", count(move.tokens_at_start)],
    ["Copied", bytes(bytesOf(move))],
  ];
  return <FactList rows={rows} />;
}
