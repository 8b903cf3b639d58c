import { remove } from "../../api/client";
import type { LimitRow } from "../../api/shapes";
import { useClasses, useTenantLimits } from "../../api/tenants";
import { count } from "../../lib/format";
import { type Column, DataTable } from "../DataTable";
import { useDialog } from "../dialogs/DialogProvider";
import { ProblemNote } from "../dialogs/Problem";
import { EditLimits } from "./forms";
import { OwnButton } from "./OwnButton";

/** What a tenant may use at most, as a whole, by class or by key. */
export function LimitsCard({ slug }: { slug: string }) {
  const open = useDialog();
  const limits = useTenantLimits(slug);
  const classes = useClasses();
  const rows = limits.data ?? [];
  const names = (classes.data ?? []).map((row) => row.name);
  const edit = (row?: LimitRow) =>
    open({
      kind: "form",
      content: (close) => <EditLimits tenant={slug} row={row} classes={names} onClose={close} />,
    });
  const lift = (row: LimitRow) =>
    open({
      kind: "confirm",
      title: `Lift the limits of ${row.subject}?`,
      text: "It may use what the fleet has, within the limits that remain.",
      verb: "Lift them",
      run: () => remove(`tenants/${slug}/limits/${row.id}`),
      done: "The limits are lifted.",
      touches: ["tenants"],
    });
  const columns: Column<LimitRow>[] = [
    { head: "Of", cell: (row) => row.subject },
    { head: "Requests / min", num: true, cell: (row) => count(row.requests_per_minute) },
    { head: "Tokens / min", num: true, cell: (row) => count(row.tokens_per_minute) },
    { head: "Concurrent", num: true, cell: (row) => count(row.concurrent_requests) },
    { head: "Queued", num: true, cell: (row) => count(row.queued_requests) },
    { head: "Wait, s", num: true, cell: (row) => count(row.queue_seconds) },
    {
      head: "Action",
      bare: true,
      num: true,
      className: "nowrap",
      cell: (row) => (
        <>
          <OwnButton className="small quiet" onClick={() => edit(row)}>
            Change…
          </OwnButton>
          <OwnButton className="small quiet" onClick={() => lift(row)}>
            Lift…
          </OwnButton>
        </>
      ),
    },
  ];
  return (
    <section className="card" aria-label="limits">
      <div className="card-head">
        <h2>Limits</h2>
        <span className="aside">
          <OwnButton className="small" onClick={() => edit()}>
            Set limits…
          </OwnButton>
        </span>
      </div>
      <ProblemNote error={limits.error} />
      {rows.length === 0 ? (
        <p className="empty">
          No limit: {slug} may use what the fleet has, and shares fairly with the others of its class.
        </p>
      ) : (
        <DataTable columns={columns} rows={rows} rowKey={(row) => row.id} />
      )}
    </section>
  );
}
