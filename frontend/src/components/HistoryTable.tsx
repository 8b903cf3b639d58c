import { Link } from "react-router";
import { ABSENT, count, duration, fullTime, moment } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { tenantColor } from "../lib/tenants";
import { blocksOf, outcomeOf, ruleWords, shortMove, splitStages, stopShort } from "../lib/words";
import type { LiveState } from "../live/reducer";
import type { Migration } from "../live/types";
import { ClassMark } from "./ClassMark";
import { type Column, DataTable } from "./DataTable";
import { Mark } from "./Mark";

interface HistoryProps {
  moves: readonly Migration[];
  state: LiveState;
  now: number;
}

export function HistoryTable({ moves, state, now }: HistoryProps) {
  const narrow = useNarrow();
  if (moves.length === 0) return <p className="empty t2">No move matches.</p>;
  if (narrow) return <HistoryList moves={moves} now={now} />;
  return <DataTable tight columns={columns(state, now)} rows={moves} rowKey={(move) => move.id} />;
}

function columns(state: LiveState, now: number): Column<Migration>[] {
  return [
    {
      head: "Move",
      className: "mono nowrap",
      cell: (move) => (
        <Link to={`/migrations/${move.id}`} title={move.id}>
          {shortMove(move.id)}
        </Link>
      ),
    },
    {
      head: "Ended, UTC",
      className: "t2 nowrap",
      title: (move) => fullTime(move.ended_at),
      cell: (move) => moment(move.ended_at, now),
    },
    { head: "Path", className: "nowrap", cell: (move) => `${move.source} → ${move.destination}` },
    {
      head: "Tenant and class",
      className: "nowrap",
      cell: (move) => (
        <>
          <ClassMark name={move.slo_class} color={tenantColor(state.tenants, move.tenant)} />{" "}
          {move.tenant || ABSENT} <span className="t3">{move.slo_class}</span>
        </>
      ),
    },
    { head: "Blocks", num: true, cell: (move) => count(blocksOf(move)) },
    { head: "Stages", num: true, className: "t2", cell: (move) => count(splitStages(move).copies.length) },
    { head: "Downtime", num: true, className: "strong", cell: (move) => duration(move.downtime_ms) },
    { head: "Outcome", cell: (move) => <OutcomeWords move={move} /> },
    {
      head: "Reason",
      className: "t2 reason",
      title: (move) => move.why,
      cell: (move) => (move.rule === "drain" ? "drain" : ruleWords(move)),
    },
  ];
}

function HistoryList({ moves, now }: Omit<HistoryProps, "state">) {
  return (
    <ul className="fleet-list">
      {moves.map((move) => (
        <li key={move.id} className="detail">
          <div className="row">
            <Link to={`/migrations/${move.id}`}>
              {move.source} → {move.destination}
            </Link>
            <span className="t3">{moment(move.ended_at, now)}</span>
            <b style={{ marginLeft: "auto" }}>{duration(move.downtime_ms)}</b>
          </div>
          <OutcomeWords move={move} /> <span className="t3">· {ruleWords(move)}</span>
        </li>
      ))}
    </ul>
  );
}

export function OutcomeWords({ move }: { move: Migration }) {
  const outcome = outcomeOf(move);
  if (outcome === "finished") {
    return (
      <>
        <Mark shape="good" size={13} /> Finished
      </>
    );
  }
  return (
    <span className={outcome === "late" ? "warning" : ""}>
      <Mark shape={outcome === "late" ? "risk" : "stopped"} size={13} /> {stopShort(move)}
    </span>
  );
}
