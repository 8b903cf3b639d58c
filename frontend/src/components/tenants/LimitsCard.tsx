import { remove } from "../../api/client";
import { useClasses, useTenantLimits } from "../../api/tenants";
import { count } from "../../lib/format";
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
  const edit = (row?: (typeof rows)[number]) =>
    open({
      kind: "form",
      content: (close) => <EditLimits tenant={slug} row={row} classes={names} onClose={close} />,
    });
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
        <div className="scroll-x">
          <table className="table">
            <thead>
              <tr>
                <th>Of</th>
                <th className="num">Requests / min</th>
                <th className="num">Tokens / min</th>
                <th className="num">Concurrent</th>
                <th className="num">Queued</th>
                <th className="num">Wait, s</th>
                <th>
                  <span className="visually-hidden">Action</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.id}>
                  <td>{row.subject}</td>
                  <td className="num">{count(row.requests_per_minute)}</td>
                  <td className="num">{count(row.tokens_per_minute)}</td>
                  <td className="num">{count(row.concurrent_requests)}</td>
                  <td className="num">{count(row.queued_requests)}</td>
                  <td className="num">{count(row.queue_seconds)}</td>
                  <td className="num nowrap">
                    <OwnButton className="small quiet" onClick={() => edit(row)}>
                      Change…
                    </OwnButton>
                    <OwnButton
                      className="small quiet"
                      onClick={() =>
                        open({
                          kind: "confirm",
                          title: `Lift the limits of ${row.subject}?`,
                          text: "It may use what the fleet has, within the limits that remain.",
                          verb: "Lift them",
                          run: () => remove(`tenants/${slug}/limits/${row.id}`),
                          done: "The limits are lifted.",
                          touches: ["tenants"],
                        })
                      }
                    >
                      Lift…
                    </OwnButton>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
