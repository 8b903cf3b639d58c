import { Link } from "react-router";
import { age, count, fullTime, plural } from "../../lib/format";
import type { WaitingRequest } from "../../lib/queue";
import { tenantColor } from "../../lib/tenants";
import { shortId } from "../../lib/words";
import { ClassMark } from "../ClassMark";
import { type Column, DataTable } from "../DataTable";

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
        <DataTable
          columns={columns(largest, tenants, now)}
          rows={waiting.slice(0, SHOWN)}
          rowKey={(item) => `${item.where}/${item.requestId}`}
        />
      )}
      {waiting.length > SHOWN && (
        <p className="caption card-body">and {count(waiting.length - SHOWN)} more behind them</p>
      )}
    </section>
  );
}

function columns(largest: number | null, tenants: readonly string[], now: number): Column<WaitingRequest>[] {
  const nowhere = (item: WaitingRequest) => largest !== null && item.neededTokens > largest;
  return [
    { head: "#", num: true, className: "t3", cell: (item) => item.position || "–" },
    {
      head: "Request",
      className: "nowrap",
      cell: (item) => (
        <>
          <ClassMark name={item.sloClass} color={tenantColor(tenants, item.tenant)} />{" "}
          <Link className="mono" to={`/requests/${item.requestId}`} title={item.requestId}>
            {shortId(item.requestId)}
          </Link>
        </>
      ),
    },
    { head: "Tenant", className: "nowrap", cell: (item) => item.tenant || "–" },
    { head: "Class", cell: (item) => item.sloClass },
    {
      head: "Waits",
      num: true,
      className: "strong",
      title: (item) => fullTime(item.since),
      cell: (item) => age(now - item.since),
    },
    {
      head: "Needs",
      num: true,
      className: (item) => (nowhere(item) ? "critical strong" : ""),
      cell: (item) => `${count(item.neededTokens)} tokens`,
    },
    {
      head: "Where",
      className: "nowrap t2",
      cell: (item) =>
        item.atInstance ? <Link to={`/instances/${item.where}`}>{item.where}</Link> : "in front of the fleet",
    },
    {
      head: "Why",
      className: "t2",
      cell: (item) => (
        <>
          {item.why || "waits for its turn"}
          {nowhere(item) && <b> · fits nowhere now</b>}
        </>
      ),
    },
  ];
}
