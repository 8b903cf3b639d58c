import { useState } from "react";
import { get, post } from "../../api/client";
import type { components } from "../../api/schema";
import { useMe } from "../../session";
import { useDialog } from "../dialogs/DialogProvider";
import { FormDialog } from "../dialogs/FormDialog";
import { ProblemNote } from "../dialogs/Problem";
import { ReasonField } from "../dialogs/Reason";

type Plan = components["schemas"]["ImportOutput"];

/** Tenants, classes and limits as a YAML file: out, and in again after its difference was seen. */
export function TransferMenu() {
  const open = useDialog();
  const me = useMe();
  const [error, setError] = useState<unknown>(null);
  return (
    <span className="row">
      <button type="button" className="btn small" onClick={() => void download("tenants.yaml", setError)}>
        Export YAML
      </button>
      <a className="btn small" href="/api/v1/tenants?export=csv" download="tenants.csv">
        Export CSV
      </a>
      <button
        type="button"
        className="btn small"
        disabled={me.role !== "admin"}
        title={me.role === "admin" ? undefined : "needs role admin"}
        onClick={() => open({ kind: "form", content: (close) => <Import onClose={close} /> })}
      >
        Import…
      </button>
      <ProblemNote error={error} />
    </span>
  );
}

async function download(name: string, onError: (error: unknown) => void): Promise<void> {
  try {
    const { yaml } = await get<components["schemas"]["YamlOutput"]>("configuration");
    const url = URL.createObjectURL(new Blob([yaml], { type: "application/yaml" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    URL.revokeObjectURL(url);
  } catch (error) {
    onError(error);
  }
}

function Import({ onClose }: { onClose: () => void }) {
  const [document, setDocument] = useState("");
  const [plan, setPlan] = useState<Plan | null>(null);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      key={plan ? "apply" : "plan"}
      title="Import tenants and classes"
      verb={plan ? `Apply ${plan.changes.length} changes` : "Show what would change"}
      disabled={document === "" || plan?.changes.length === 0}
      onClose={plan ? onClose : () => onClose()}
      run={async () => {
        if (plan) {
          await post("configuration", {
            document,
            digest: plan.digest,
            dry_run: false,
            change_reason: reason,
          });
          return "applied";
        }
        setPlan(await post<Plan>("configuration", { document, dry_run: true }));
        return "planned";
      }}
      done={null}
      after={(answer) =>
        answer === "applied" ? (
          <p>
            The file is applied.{" "}
            <button type="button" className="btn small" onClick={onClose}>
              Close
            </button>
          </p>
        ) : null
      }
      touches={["tenants", "classes"]}
    >
      {() => (
        <>
          <p className="t2">
            A file as the export makes it. Nothing is changed before you have seen the difference.
          </p>
          <textarea
            className="yaml"
            aria-label="YAML document"
            value={document}
            onChange={(event) => {
              setDocument(event.currentTarget.value);
              setPlan(null);
            }}
          />
          {plan && (
            <ul className="detail">
              {plan.changes.length === 0 && <li>Nothing would change.</li>}
              {plan.changes.map((change) => (
                <li key={`${change.kind}${change.name}`}>
                  <b>{change.action}</b> {change.kind} {change.name}
                </li>
              ))}
            </ul>
          )}
          {plan && <ReasonField value={reason} onChange={setReason} />}
        </>
      )}
    </FormDialog>
  );
}
