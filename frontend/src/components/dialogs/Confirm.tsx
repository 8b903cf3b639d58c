import { TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useSay } from "../Notices";
import { ProblemNote } from "./Problem";
import { ReasonField } from "./Reason";
import { Sheet } from "./Sheet";

export interface ConfirmCall {
  title: string;
  /** What will happen, and what will not. */
  text: ReactNode;
  /** The button: a verb with its object. */
  verb: string;
  danger?: boolean;
  /** To be typed before it may be done: only for what cannot be undone. */
  typeName?: string;
  run: (reason: string) => Promise<unknown>;
  /** Said once it is done. */
  done: string;
  /** Lists that are out of date afterwards. */
  touches: readonly string[];
  undo?: { label: string; run: () => Promise<unknown> };
}

/** A question before an act, with its impact; the reason goes to the audit list. */
export function Confirm({ call, onClose }: { call: ConfirmCall; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [typed, setTyped] = useState("");
  const say = useSay();
  const queries = useQueryClient();
  const act = useMutation({
    mutationFn: () => call.run(reason),
    onSuccess: () => {
      for (const name of [...call.touches, "audit"]) void queries.invalidateQueries({ queryKey: [name] });
      const { undo } = call;
      say({
        kind: "good",
        text: call.done,
        ...(undo ? { action: { label: undo.label, run: () => void undo.run() } } : {}),
      });
      onClose();
    },
  });
  const blocked = call.typeName !== undefined && typed !== call.typeName;
  return (
    <Sheet title={call.title} opened onClose={onClose}>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (!blocked) act.mutate();
        }}
      >
        <div className="t2">{call.text}</div>
        {call.typeName !== undefined && (
          <TextInput
            label={`Type ${call.typeName} to confirm`}
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
            autoComplete="off"
          />
        )}
        <ReasonField value={reason} onChange={setReason} />
        <ProblemNote error={act.error} />
        <div className="form-actions">
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          <button
            type="submit"
            className={`btn ${call.danger ? "danger" : "primary"}`}
            disabled={act.isPending || blocked}
          >
            {act.isPending ? "Asking…" : call.verb}
          </button>
        </div>
      </form>
    </Sheet>
  );
}
