import { Link } from "react-router";
import type { LiveRequest } from "../api/types";
import { count, percent } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import { shortId } from "../lib/words";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { useBlocked } from "./ActionButton";
import { ClassMark } from "./ClassMark";
import { type Column, DataTable } from "./DataTable";
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
    <DataTable
      bounded
      columns={columns(instanceId, instance, state)}
      rows={requests}
      rowKey={(request) => request.engine_id}
    />
  );
}

function columns(instanceId: string, instance: Instance, state: LiveState): Column<LiveRequest>[] {
  const share = (request: LiveRequest) =>
    instance.total_blocks ? request.blocks / instance.total_blocks : null;
  return [
    { head: "#", num: true, className: "t3", cell: (_, index) => index + 1 },
    {
      head: "Request",
      className: "nowrap",
      cell: (request) => (
        <>
          <ClassMark name={request.slo_class} color={tenantColor(state.tenants, request.tenant)} />{" "}
          <Link className="mono" to={`/requests/${request.request_id}`} title={request.request_id}>
            {shortId(request.request_id)}
          </Link>
        </>
      ),
    },
    { head: "Tenant", className: "nowrap", cell: (request) => request.tenant || "–" },
    { head: "Class", cell: (request) => request.slo_class },
    { head: "Blocks", num: true, cell: (request) => count(request.blocks) },
    { head: "Tokens", num: true, cell: (request) => count(request.prompt_tokens + request.output_tokens) },
    {
      head: "Share",
      num: true,
      className: "t2",
      cell: (request) => (request.state === "waiting" ? "–" : percent(share(request))),
    },
    { head: "State", className: "nowrap", cell: (request) => stateCell(request, state) },
    {
      head: "Action",
      bare: true,
      num: true,
      cell: (request) => <Move request={request} instanceId={instanceId} />,
    },
  ];
}

function Move({ request, instanceId }: { request: LiveRequest; instanceId: string }) {
  const open = useDialog();
  const blocked = useBlocked();
  if (request.state !== "running" || request.migration_id) return null;
  return (
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
