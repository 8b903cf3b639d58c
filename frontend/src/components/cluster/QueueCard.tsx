import { Link } from "react-router";
import { age, count, fullTime, plural } from "../../lib/format";
import type { WaitingRequest } from "../../lib/queue";
import { tenantColor } from "../../lib/tenants";
import { shortId } from "../../lib/words";
import { ClassMark } from "../ClassMark";

interface QueueProps {
  waiting: readonly WaitingRequest[];
  /** How many wait by the instances' and gateways' own count: detail may not be at hand. */
  total: number;
  largest: number | null;
  tenants: readonly string[];
  now: number;
}

const SHOWN = 12;

/** The fleet's queue: who waits, since when, in which position, why. */
export function QueueCard({ waiting, total, largest, tenants, now }: QueueProps) {
  return (
    <section className="card" aria-label="queue">
      <div className="card-head">
        <h2>Waiting</h2>
        <span className="t3">
          {total ? `${plural(total, "request")} without memory, next ones first` : "nobody waits for memory"}
        </span>
        <Link className="aside" to="/requests?state=waiting">
          All waiting
        </Link>
      </div>
      {waiting.length === 0 ? (
        <p className="empty t2">
          {total
            ? "They wait inside their engines; who they are is asked once a second."
            : "Every request that was admitted decodes or is being prefilled now."}
        </p>
      ) : (
        <div className="scroll-x">
          <table className="table">
            <thead>
              <tr>
                <th className="num">#</th>
                <th>Request</th>
                <th>Tenant</th>
                <th>Class</th>
                <th className="num">Waits</th>
                <th className="num">Needs</th>
                <th>Where</th>
                <th>Why</th>
              </tr>
            </thead>
            <tbody>
              {waiting.slice(0, SHOWN).map((item) => (
                <Row key={`${item.where}/${item.requestId}`} {...{ item, largest, tenants, now }} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {waiting.length > SHOWN && (
        <p className="caption card-body">and {count(waiting.length - SHOWN)} more behind them</p>
      )}
    </section>
  );
}

function Row({
  item,
  largest,
  tenants,
  now,
}: Omit<QueueProps, "waiting" | "total"> & { item: WaitingRequest }) {
  const nowhere = largest !== null && item.neededTokens > largest;
  return (
    <tr>
      <td className="num t3">{item.position || "–"}</td>
      <td className="nowrap">
        <ClassMark name={item.sloClass} color={tenantColor(tenants, item.tenant)} />{" "}
        <Link className="mono" to={`/requests/${item.requestId}`} title={item.requestId}>
          {shortId(item.requestId)}
        </Link>
      </td>
      <td className="nowrap">{item.tenant || "–"}</td>
      <td>{item.sloClass}</td>
      <td className="num strong" title={fullTime(item.since)}>
        {age(now - item.since)}
      </td>
      <td className={`num ${nowhere ? "critical strong" : ""}`}>{count(item.neededTokens)} tokens</td>
      <td className="nowrap t2">
        {item.atInstance ? (
          <Link to={`/instances/${item.where}`}>{item.where}</Link>
        ) : (
          "in front of the fleet"
        )}
      </td>
      <td className="t2">
        {item.why || "waits for its turn"}
        {nowhere && <b> · fits nowhere now</b>}
      </td>
    </tr>
  );
}
