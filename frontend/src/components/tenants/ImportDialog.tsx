import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, post } from "../../api/client";
import type { components } from "../../api/schema";
import { plural } from "../../lib/format";
import { faultsOf, fieldChanges } from "../../lib/transfer";
import { ProblemNote } from "../dialogs/Problem";
import { ReasonField } from "../dialogs/Reason";
import { Sheet } from "../dialogs/Sheet";
import { Mark } from "../Mark";
import { useSay } from "../Notices";

type Plan = components["schemas"]["ImportOutput"];

const MAX_FILE_BYTES = 2 ** 20;

/** A file of tenants and classes: chosen or pasted, compared with what is there, then applied as compared. */
export function ImportDialog({ onClose }: { onClose: () => void }) {
  const [document, setDocument] = useState("");
  const [reason, setReason] = useState("");
  const { plan, apply, forget } = useImport(onClose);
  const found = plan.data;
  const busy = plan.isPending || apply.isPending;
  const nothing = found?.changes.length === 0;
  const take = (text: string) => {
    setDocument(text);
    forget();
  };
  return (
    <Sheet title="Import tenants and classes" opened onClose={onClose}>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (found) apply.mutate({ document, digest: found.digest, reason });
          else plan.mutate(document);
        }}
      >
        <p className="t2">
          A file as the export makes it. What it does not mention stays as it is, and nothing is changed
          before you have seen the difference.
        </p>
        <FileField onText={take} />
        <textarea
          className="yaml"
          aria-label="YAML document"
          spellCheck={false}
          value={document}
          onChange={(event) => take(event.currentTarget.value)}
        />
        <Faults error={plan.error ?? apply.error} />
        {found && <Difference plan={found} />}
        {found && !nothing && <ReasonField value={reason} onChange={setReason} />}
        <div className="form-actions">
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="btn primary" disabled={document === "" || nothing || busy}>
            {busy
              ? "Asking…"
              : found && !nothing
                ? `Apply ${plural(found.changes.length, "change")}`
                : "Show what would change"}
          </button>
        </div>
      </form>
    </Sheet>
  );
}

/** Two questions of one endpoint: what would change, and make exactly that so. */
function useImport(onDone: () => void) {
  const say = useSay();
  const queries = useQueryClient();
  const plan = useMutation({
    mutationFn: (document: string) => post<Plan>("configuration", { document, dry_run: true }),
  });
  const apply = useMutation({
    mutationFn: ({ document, digest, reason }: { document: string; digest: string; reason: string }) =>
      post<Plan>("configuration", { document, digest, dry_run: false, change_reason: reason }),
    onSuccess: ({ changes }) => {
      for (const name of ["tenants", "classes", "audit"])
        void queries.invalidateQueries({ queryKey: [name] });
      say({ kind: "good", text: `The file is applied: ${plural(changes.length, "change")}.` });
      onDone();
    },
  });
  const forget = () => {
    plan.reset();
    apply.reset();
  };
  return { plan, apply, forget };
}

function FileField({ onText }: { onText: (text: string) => void }) {
  const [problem, setProblem] = useState("");
  return (
    <label className="file-field">
      <span>YAML file</span>
      <input
        type="file"
        accept=".yaml,.yml,application/yaml"
        onChange={async (event) => {
          const input = event.currentTarget;
          const file = input.files?.[0];
          if (!file) return;
          const fits = file.size <= MAX_FILE_BYTES;
          setProblem(fits ? "" : `${file.name} is larger than 1 MiB: split it, each part alone is a file.`);
          if (fits) onText(await file.text());
          // The same file, mended, can be chosen again.
          input.value = "";
        }}
      />
      {problem && (
        <span className="complaint" role="alert">
          {problem}
        </span>
      )}
    </label>
  );
}

/** Every fault of the document, each with the field that it stands at. */
function Faults({ error }: { error: unknown }) {
  const faults = error instanceof ApiError ? faultsOf(error.problem.errors ?? []) : [];
  if (faults.length === 0) return <ProblemNote error={error} />;
  return (
    <div className="note critical" role="alert">
      <Mark shape="hurt" />
      <div>
        <b>Nothing was changed: {plural(faults.length, "fault")} in the file.</b>
        <ul>
          {faults.map(({ field, message }) => (
            <li key={field + message}>
              {field && <code className="mono">{field}</code>} {message}
            </li>
          ))}
        </ul>
      </div>
    </div>
  );
}

function Difference({ plan }: { plan: Plan }) {
  if (plan.changes.length === 0) return <p className="t2">Nothing would change.</p>;
  return (
    <ul className="detail import-changes" aria-label="what would change">
      {plan.changes.map((change) => (
        <li key={`${change.kind}${change.name}`}>
          <b>{change.action}</b> {change.kind} <b>{change.name}</b>
          <ul>
            {fieldChanges(change).map(({ field, before, after }) => (
              <li key={field}>
                <code className="mono">{field}</code>: <span className="t3">{before}</span> → {after}
              </li>
            ))}
          </ul>
        </li>
      ))}
    </ul>
  );
}
