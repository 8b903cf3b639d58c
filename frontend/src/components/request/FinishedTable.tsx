import { useFinishedRequests } from "../../api/requests";
import type { RequestRow } from "../../api/shapes";
import { count, duration, fullTime, moment } from "../../lib/format";
import { useNarrow } from "../../lib/narrow";
import { rangeWords } from "../../lib/range";
import type { Filters } from "../../lib/requestRows";
import { useSettled } from "../../lib/settled";
import type { LiveState } from "../../live/reducer";
import { useScope } from "../../live/scope";
import { ProblemNote } from "../dialogs/Problem";
import { Mark } from "../Mark";
import { VirtualRows } from "../VirtualRows";
import { RequestName } from "./RequestName";

/** Requests that ended in the time range, newest first, page after page as one scrolls. */
export function FinishedTable({ filters, state, now }: { filters: Filters; state: LiveState; now: number }) {
  const narrow = useNarrow();
  const { range } = useScope();
  const q = useSettled(filters.text);
  const found = useFinishedRequests(
    {
      live: "false",
      q,
      outcome: ["running", "waiting", "moving"].includes(filters.state) ? "" : filters.state,
      instance: filters.instance,
      tenant: filters.tenant,
      slo_class: filters.sloClass,
    },
    range,
  );
  const rows = found.data?.pages.flatMap((page) => page.results) ?? [];
  return (
    <section className="card" aria-label="finished requests">
      <div className="card-head">
        <h2>Finished</h2>
        <span className="t3">
          {rangeWords(range)}, {count(rows.length)} loaded
          {found.hasNextPage ? ", more follow as you scroll" : ""}
        </span>
      </div>
      <ProblemNote error={found.error} />
      {found.isPending ? (
        <div className="skeleton" style={{ height: 240, margin: 14 }} />
      ) : rows.length === 0 ? (
        <p className="empty">No request that finished {rangeWords(range)} matches.</p>
      ) : (
        <VirtualRows
          label="finished requests"
          rows={rows}
          rowKey={(row) => row.request_id}
          rowHeight={narrow ? 52 : 30}
          columns={
            narrow
              ? "1fr auto"
              : "minmax(150px,1.4fr) 1fr 1.3fr 110px 70px 70px 80px 80px 80px 60px minmax(90px,1fr)"
          }
          numbers={narrow ? [1] : [4, 5, 6, 7, 8, 9]}
          head={
            narrow
              ? ["Request", "First token"]
              : [
                  "Request",
                  "Tenant",
                  "Class",
                  "Finished",
                  "Prompt",
                  "Output",
                  "Queued",
                  "TTFT",
                  "TPOT",
                  "Moves",
                  "Outcome",
                ]
          }
          render={(row) => (narrow ? narrowFinished(row, state) : finishedCells(row, state, now))}
          onEnd={found.hasNextPage && !found.isFetching ? () => void found.fetchNextPage() : undefined}
        />
      )}
    </section>
  );
}

function finishedCells(row: RequestRow, state: LiveState, now: number) {
  const at = row.finished_at ? Date.parse(row.finished_at) / 1000 : null;
  const lowered = row.slo_class_asked && row.slo_class_asked !== row.slo_class_served;
  return [
    <RequestName
      key="id"
      id={row.request_id}
      sloClass={row.slo_class_served}
      tenant={row.tenant}
      state={state}
    />,
    row.tenant || "–",
    <span key="class">
      {row.slo_class_served}
      {lowered && <span className="t3"> asked {row.slo_class_asked}</span>}
    </span>,
    <span key="at" className="t2" title={fullTime(at)}>
      {moment(at, now)}
    </span>,
    count(row.prompt_tokens),
    count(row.output_tokens),
    duration(row.queued_ms),
    <span key="ttft" className={over(row.ttft_ms, row, state, "ttft_target_ms")}>
      {duration(row.ttft_ms)}
    </span>,
    <span key="tpot" className={over(row.tpot_ms, row, state, "tpot_target_ms")}>
      {duration(row.tpot_ms)}
    </span>,
    `${count(row.moves)}${row.recoveries ? ` + ${count(row.recoveries)}` : ""}`,
    <Outcome key="out" text={row.outcome ?? ""} />,
  ];
}

function narrowFinished(row: RequestRow, state: LiveState) {
  return [
    <span key="id">
      <RequestName id={row.request_id} sloClass={row.slo_class_served} tenant={row.tenant} state={state} />
      <span className="caption block">
        {row.tenant} · {count(row.output_tokens)} tokens · {row.outcome}
      </span>
    </span>,
    duration(row.ttft_ms),
  ];
}

function over(
  value: number | null,
  row: RequestRow,
  state: LiveState,
  name: "ttft_target_ms" | "tpot_target_ms",
): string {
  const target = state.classes.get(row.slo_class_served)?.[name] ?? null;
  return value !== null && target !== null && value > target ? "critical" : "";
}

export function Outcome({ text }: { text: string }) {
  const bad = text.startsWith("error");
  return (
    <span className={bad ? "critical" : ""} title={text}>
      {bad && <Mark shape="hurt" size={12} />} {text || "–"}
    </span>
  );
}
