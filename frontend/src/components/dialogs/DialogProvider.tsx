import { createContext, type ReactNode, useCallback, useContext, useState } from "react";
import { ClassDialog } from "./ClassDialog";
import { Confirm, type ConfirmCall } from "./Confirm";
import { DrainDialog } from "./DrainDialog";
import { MigrateDialog } from "./MigrateDialog";

export type DialogCall =
  | { kind: "drain"; instanceId: string }
  | { kind: "undrain"; instanceId: string }
  | { kind: "migrate"; sourceId?: string | undefined; requestId?: string | undefined }
  | { kind: "class"; tenant: string; current: string; allowed: string[] }
  | ({ kind: "confirm" } & ConfirmCall)
  /** A form of the calling page. */
  | { kind: "form"; content: (close: () => void) => ReactNode };

const DialogContext = createContext<(call: DialogCall) => void>(() => undefined);

/** Every action that needs a question opens here, from whatever page. */
export function DialogProvider({ children }: { children: ReactNode }) {
  const [call, setCall] = useState<DialogCall | null>(null);
  const close = useCallback(() => setCall(null), []);
  return (
    <DialogContext.Provider value={setCall}>
      {children}
      {(call?.kind === "drain" || call?.kind === "undrain") && (
        <DrainDialog instanceId={call.instanceId} undo={call.kind === "undrain"} onClose={close} />
      )}
      {call?.kind === "migrate" && (
        <MigrateDialog sourceId={call.sourceId} requestId={call.requestId} onClose={close} />
      )}
      {call?.kind === "class" && <ClassDialog call={call} onClose={close} />}
      {call?.kind === "confirm" && <Confirm call={call} onClose={close} />}
      {call?.kind === "form" && call.content(close)}
    </DialogContext.Provider>
  );
}

export function useDialog(): (call: DialogCall) => void {
  return useContext(DialogContext);
}
