import { Link } from "react-router";
import { ABSENT, count, duration, fullTime, moment } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { tenantColor } from "../lib/tenants";
import { blocksOf, outcomeOf, ruleWords, shortMove, splitStages, stopShort } from "../lib/words";
import type { LiveState } from "../live/reducer";
import type { Migration } from "../live/types";
import { ClassMark } from "./ClassMark";
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
  return (
    <div className="scroll-x">
      <table className="table tight">
        <thead>
          <tr>
            <th>Move</th>
            <th>Ended, UTC</th>
            <th>Path</th>
            <th>Tenant and class</th>
            <th className="num">Blocks</th>
            <th className="num">Stages</th>
            <th className="num">Downtime</th>
            <th>Outcome</th>
            <th>Reason</th>
          </tr>
        </thead>
        <tbody>
          {moves.map((move) => (
            <tr key={move.id}>
              <td className="mono nowrap">
                <Link to={`/migrations/${move.id}`} title={move.id}>
                  {shortMove(move.id)}
                </Link>
              </td>
              <td className="t2 nowrap" title={fullTime(move.ended_at)}>
                {moment(move.ended_at, now)}
              </td>
              <td className="nowrap">
                {move.source} → {move.destination}
              </td>
              <td className="nowrap">
                <ClassMark name={move.slo_class} color={tenantColor(state.tenants, move.tenant)} />{" "}
                {move.tenant || ABSENT} <span className="t3">{move.slo_class}</span>
              </td>
              <td className="num">{count(blocksOf(move))}</td>
              <td className="num t2">{count(splitStages(move).copies.length)}</td>
              <td className="num strong">{duration(move.downtime_ms)}</td>
              <td>
                <OutcomeWords move={move} />
              </td>
              <td className="t2 reason" title={move.why}>
                {move.rule === "drain" ? "drain" : ruleWords(move)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
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
