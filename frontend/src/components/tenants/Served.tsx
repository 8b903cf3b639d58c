import type { AttainmentRow } from "../../api/shapes";
import { ATTAINMENT_MIN, useAttainment, useClasses } from "../../api/tenants";
import { count, duration, percent } from "../../lib/format";
import { ClassMark } from "../ClassMark";
import { type Column, DataTable } from "../DataTable";
import { ProblemNote } from "../dialogs/Problem";
import { Mark } from "../Mark";

const OBJECTIVE = 0.99;

/** How a tenant's requests fared lately, class by class: the first thing its owner asks. */
export function Served({ slug }: { slug: string }) {
  const attainment = useAttainment();
  const classes = useClasses();
  const targets = new Map((classes.data ?? []).map((row) => [row.name, row]));
  const rows = (attainment.data ?? []).filter((row) => row.tenant === slug && row.requests > 0);
  const columns: Column<AttainmentRow>[] = [
    {
      head: "Class",
      className: "nowrap",
      cell: (row) => (
        <>
          <ClassMark name={row.slo_class} /> {row.slo_class}
        </>
      ),
    },
    { head: "Requests", num: true, cell: (row) => count(row.requests) },
    {
      head: "First token in target",
      num: true,
      className: "nowrap",
      cell: (row) => (
        <Share met={row.ttft_met} of={row.requests} target={targets.get(row.slo_class)?.ttft_target_ms} />
      ),
    },
    {
      head: "Next tokens in target",
      num: true,
      className: "nowrap",
      cell: (row) => (
        <Share met={row.tpot_met} of={row.requests} target={targets.get(row.slo_class)?.tpot_target_ms} />
      ),
    },
  ];
  return (
    <section className="card" aria-label="how it is served">
      <div className="card-head">
        <h2>How it is served</h2>
        <span className="t3">share of requests in target, last {ATTAINMENT_MIN} min</span>
      </div>
      <ProblemNote error={attainment.error} />
      {attainment.data && rows.length === 0 && (
        <p className="empty">
          No request of {slug} ended in the last {ATTAINMENT_MIN} min.
        </p>
      )}
      {rows.length > 0 && <DataTable columns={columns} rows={rows} rowKey={(row) => row.slo_class} />}
    </section>
  );
}

function Share({ met, of, target }: { met: number; of: number; target: number | null | undefined }) {
  const share = met / of;
  const hurt = share < OBJECTIVE;
  return (
    <>
      <span className={hurt ? "critical strong" : "strong"}>
        <Mark shape={hurt ? "hurt" : "good"} size={12} /> {percent(share)}
      </span>{" "}
      <span className="t3 detail">{target == null ? "no target" : `within ${duration(target)}`}</span>
    </>
  );
}
