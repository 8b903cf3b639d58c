import type { LiveRequest } from "../api/types";
import { count, percent } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import { shortId } from "../lib/words";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { useBlocked } from "./ActionButton";
import { ClassMark } from "./ClassMark";
import { useDialog } from "./dialogs/DialogProvider";
import { Mark } from "./Mark";

interface TableProps {
  instanceId: string;
  requests: readonly LiveRequest[];
  instance: Instance;
  state: LiveState;
  loading: boolean;
}

/** The twin of the memory field: same order, same numbers. */
export function RequestTable({ instanceId, requests, instance, state, loading }: TableProps) {
  if (loading) return <p className="empty t3">Asking the instance…</p>;
  if (requests.length === 0) return <p className="empty">No request is here now.</p>;
  return (
    <div className="scroll-x request-table">
      <table className="table">
        <thead>
          <tr>
            <th className="num">#</th>
            <th>Request</th>
            <th>Tenant</th>
            <th>Class</th>
            <th className="num">Blocks</th>
            <th className="num">Tokens</th>
            <th className="num">Share</th>
            <th>State</th>
            <th>
              <span className="visually-hidden">Action</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {requests.map((request, index) => (
            <Row
              key={request.engine_id}
              place={index + 1}
              request={request}
              instance={instance}
              state={state}
              instanceId={instanceId}
            />
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface RowProps {
  place: number;
  request: LiveRequest;
  instance: Instance;
  state: LiveState;
  instanceId: string;
}

function Row({ place, request, instance, state, instanceId }: RowProps) {
  const open = useDialog();
  const blocked = useBlocked();
  const share = instance.total_blocks ? request.blocks / instance.total_blocks : null;
  return (
    <tr>
      <td className="num t3">{place}</td>
      <td className="nowrap">
        <ClassMark name={request.slo_class} color={tenantColor(state.tenants, request.tenant)} />{" "}
        <span className="mono" title={request.request_id}>
          {shortId(request.request_id)}
        </span>
      </td>
      <td className="nowrap">{request.tenant || "–"}</td>
      <td>{request.slo_class}</td>
      <td className="num">{count(request.blocks)}</td>
      <td className="num">{count(request.prompt_tokens + request.output_tokens)}</td>
      <td className="num t2">{request.state === "waiting" ? "–" : percent(share)}</td>
      <td className="nowrap">{stateCell(request, state)}</td>
      <td className="num">
        {request.state === "running" && !request.migration_id && (
          <button
            type="button"
            className="btn small quiet"
            aria-disabled={blocked ? true : undefined}
            title={blocked || `Migrate ${request.request_id}…`}
            onClick={
              blocked
                ? undefined
                : () => open({ kind: "migrate", sourceId: instanceId, requestId: request.request_id })
            }
          >
            Migrate…
          </button>
        )}
      </td>
    </tr>
  );
}

function stateCell(request: LiveRequest, state: LiveState) {
  const move = request.migration_id ? state.migrations.get(request.migration_id) : undefined;
  if (move && move.ended_at === null) {
    return (
      <span className="accent">
        <Mark shape="moving" size={12} /> to {move.destination}
      </span>
    );
  }
  const words: Record<string, string> = { running: "decoding", frozen: "handing over", arriving: "arriving" };
  const tone = request.state === "preempted" ? "warning" : request.state === "waiting" ? "t3" : "";
  return <span className={tone}>{words[request.state] ?? request.state}</span>;
}
