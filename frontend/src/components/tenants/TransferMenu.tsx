import { useState } from "react";
import { get } from "../../api/client";
import type { components } from "../../api/schema";
import { useMe } from "../../session";
import { useDialog } from "../dialogs/DialogProvider";
import { ProblemNote } from "../dialogs/Problem";
import { ImportDialog } from "./ImportDialog";

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
        onClick={() => open({ kind: "form", content: (close) => <ImportDialog onClose={close} /> })}
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
