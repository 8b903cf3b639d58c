import { post } from "../../api/client";
import type { KeyRow } from "../../api/shapes";
import { useKeys } from "../../api/tenants";
import { count, moment } from "../../lib/format";
import { useDialog } from "../dialogs/DialogProvider";
import { ProblemNote } from "../dialogs/Problem";
import { NewKey, RotateKey } from "./forms";
import { OwnButton } from "./OwnButton";

/** A tenant's keys: made, rotated, revoked; each is shown once. */
export function Keys({ slug }: { slug: string }) {
  const open = useDialog();
  const keys = useKeys(slug);
  const rows = keys.data ?? [];
  return (
    <section className="card" aria-label="keys">
      <div className="card-head">
        <h2>Keys</h2>
        <span className="t3">
          {keys.data ? `${count(rows.filter((row) => row.valid).length)} valid` : ""}
        </span>
        <span className="aside">
          <OwnButton
            className="small"
            onClick={() =>
              open({ kind: "form", content: (close) => <NewKey tenant={slug} onClose={close} /> })
            }
          >
            Make a key…
          </OwnButton>
        </span>
      </div>
      <ProblemNote error={keys.error} />
      {rows.length === 0 ? (
        <p className="empty">No key yet: without one nobody can send requests for {slug}.</p>
      ) : (
        <div className="scroll-x">
          <table className="table">
            <thead>
              <tr>
                <th>Key</th>
                <th>What for</th>
                <th>May</th>
                <th>Last used</th>
                <th>Expires</th>
                <th>
                  <span className="visually-hidden">Action</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <KeyLine key={row.id} row={row} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function KeyLine({ row }: { row: KeyRow }) {
  const open = useDialog();
  const now = Date.now() / 1000;
  const at = (text: string | null | undefined) => (text ? moment(Date.parse(text) / 1000, now) : null);
  return (
    <tr className={row.valid ? "" : "t3"}>
      <td className="mono nowrap">{row.prefix}…</td>
      <td>{row.name}</td>
      <td className="t2 detail">
        {row.scopes.join(", ")}
        {row.networks.length > 0 && ` from ${row.networks.join(", ")}`}
      </td>
      <td className="t2 nowrap" title={row.last_used_from ?? undefined}>
        {at(row.last_used_at) ?? "never"}
      </td>
      <td className="t2 nowrap">
        {row.revoked_at ? `revoked ${at(row.revoked_at)}` : (at(row.expires_at) ?? "never")}
      </td>
      <td className="num nowrap">
        {row.valid && (
          <>
            <OwnButton
              className="small quiet"
              onClick={() =>
                open({ kind: "form", content: (close) => <RotateKey row={row} onClose={close} /> })
              }
            >
              Rotate…
            </OwnButton>
            <OwnButton
              className="small quiet danger"
              onClick={() =>
                open({
                  kind: "confirm",
                  title: `Revoke ${row.prefix}…?`,
                  text: `"${row.name}" is refused everywhere within 5 s. Its streams that run now end normally. This cannot be undone.`,
                  verb: "Revoke the key",
                  danger: true,
                  run: (reason) =>
                    post(`tenants/${row.tenant}/keys/${row.id}/revoke`, { change_reason: reason }),
                  done: `${row.prefix}… is revoked.`,
                  touches: ["tenants"],
                })
              }
            >
              Revoke…
            </OwnButton>
          </>
        )}
      </td>
    </tr>
  );
}
