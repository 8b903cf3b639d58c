import { post } from "../../api/client";
import type { KeyRow } from "../../api/shapes";
import { useKeys } from "../../api/tenants";
import { count, moment } from "../../lib/format";
import { type Column, DataTable } from "../DataTable";
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
        <DataTable
          columns={COLUMNS}
          rows={rows}
          rowKey={(row) => row.id}
          rowClass={(row) => (row.valid ? "" : "t3")}
        />
      )}
    </section>
  );
}

function at(text: string | null | undefined): string | null {
  return text ? moment(Date.parse(text) / 1000, Date.now() / 1000) : null;
}

const COLUMNS: Column<KeyRow>[] = [
  { head: "Key", className: "mono nowrap", cell: (row) => `${row.prefix}…` },
  { head: "What for", cell: (row) => row.name },
  {
    head: "May",
    className: "t2 detail",
    cell: (row) =>
      `${row.scopes.join(", ")}${row.networks.length > 0 ? ` from ${row.networks.join(", ")}` : ""}`,
  },
  {
    head: "Last used",
    className: "t2 nowrap",
    title: (row) => row.last_used_from ?? undefined,
    cell: (row) => at(row.last_used_at) ?? "never",
  },
  {
    head: "Expires",
    className: "t2 nowrap",
    cell: (row) => (row.revoked_at ? `revoked ${at(row.revoked_at)}` : (at(row.expires_at) ?? "never")),
  },
  {
    head: "Action",
    bare: true,
    num: true,
    className: "nowrap",
    cell: (row) => row.valid && <KeyActions row={row} />,
  },
];

function KeyActions({ row }: { row: KeyRow }) {
  const open = useDialog();
  return (
    <>
      <OwnButton
        className="small quiet"
        onClick={() => open({ kind: "form", content: (close) => <RotateKey row={row} onClose={close} /> })}
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
            run: (reason) => post(`tenants/${row.tenant}/keys/${row.id}/revoke`, { change_reason: reason }),
            done: `${row.prefix}… is revoked.`,
            touches: ["tenants"],
          })
        }
      >
        Revoke…
      </OwnButton>
    </>
  );
}
