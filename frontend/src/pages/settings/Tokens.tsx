import { MultiSelect, Select, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { get, type Page, post } from "../../api/client";
import type { Token, TokenIssued } from "../../api/shapes";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { FormDialog } from "../../components/dialogs/FormDialog";
import { ProblemNote } from "../../components/dialogs/Problem";
import { ReasonField } from "../../components/dialogs/Reason";
import { fieldError } from "../../components/tenants/forms";
import { OnceShown } from "../../components/tenants/OnceShown";
import { moment } from "../../lib/format";

const SCOPES = ["read", "fleet", "policies", "tenants", "alerts", "accounts", "metrics"];

/** Tokens for scripts and machines that call the admin API. */
export function Tokens() {
  const open = useDialog();
  const tokens = useQuery({
    queryKey: ["tokens"],
    queryFn: async () => (await get<Page<Token>>("tokens?limit=200")).results,
  });
  const now = Date.now() / 1000;
  return (
    <section className="card" aria-label="machine tokens">
      <div className="card-head">
        <h2>Machine tokens</h2>
        <span className="t3">for scripts that call /api/v1</span>
        <span className="aside">
          <button
            type="button"
            className="btn small"
            onClick={() => open({ kind: "form", content: (close) => <NewToken onClose={close} /> })}
          >
            Make a token…
          </button>
        </span>
      </div>
      <ProblemNote error={tokens.error} />
      {tokens.data?.length === 0 && (
        <p className="empty">None yet. A token may only do what its scopes name.</p>
      )}
      <ul className="class-list">
        {(tokens.data ?? []).map((row) => (
          <li key={row.id} className={`row ${row.revoked_at ? "t3" : ""}`}>
            <span className="mono">{row.prefix}…</span> <b>{row.name}</b>
            <span className="t2 detail">
              {row.role}, {row.scopes.join(", ")}
            </span>
            <span className="t3 detail push">
              {row.revoked_at
                ? "revoked"
                : row.last_used_at
                  ? `last used ${moment(Date.parse(row.last_used_at) / 1000, now)}`
                  : "never used"}
            </span>
            {!row.revoked_at && (
              <button
                type="button"
                className="btn small quiet danger"
                onClick={() =>
                  open({
                    kind: "confirm",
                    title: `Revoke ${row.name}?`,
                    text: "What uses it is refused from now on. This cannot be undone.",
                    verb: "Revoke the token",
                    danger: true,
                    run: (reason) => post(`tokens/${row.id}/revoke`, { change_reason: reason }),
                    done: `${row.name} is revoked.`,
                    touches: ["tokens"],
                  })
                }
              >
                Revoke…
              </button>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function NewToken({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("viewer");
  const [scopes, setScopes] = useState<string[]>(["read"]);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title="A token for a machine"
      verb="Make the token"
      disabled={name === "" || scopes.length === 0}
      onClose={onClose}
      run={() => post<TokenIssued>("tokens", { name, role, scopes, change_reason: reason })}
      done={null}
      after={(row) => <OnceShown what="token" value={row.token ?? ""} onClose={onClose} />}
      touches={["tokens"]}
    >
      {(error) => (
        <>
          <TextInput
            label="What for"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={fieldError(error, "name")}
            data-autofocus
          />
          <Select
            label="Role"
            data={["viewer", "operator", "admin"]}
            value={role}
            onChange={(value) => setRole(value ?? "viewer")}
            allowDeselect={false}
            error={fieldError(error, "role")}
          />
          <MultiSelect
            label="May"
            data={SCOPES}
            value={scopes}
            onChange={setScopes}
            error={fieldError(error, "scopes")}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
