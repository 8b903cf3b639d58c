import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useSay } from "../Notices";
import { ProblemNote } from "./Problem";
import { Sheet } from "./Sheet";

interface FormDialogProps<T> {
  title: string;
  verb: string;
  onClose: () => void;
  run: () => Promise<T>;
  /** Said once it is done; null says nothing. */
  done: ((answer: T) => string) | null;
  touches: readonly string[];
  /** Instead of closing: what to show of the answer. */
  after?: (answer: T) => ReactNode;
  disabled?: boolean;
  children: (error: unknown) => ReactNode;
}

/** A form in a dialog: fields, the server's complaint, one act. */
export function FormDialog<T>(props: FormDialogProps<T>) {
  const { title, verb, onClose, run, done, touches, after, disabled, children } = props;
  const say = useSay();
  const queries = useQueryClient();
  const act = useMutation({
    mutationFn: run,
    onSuccess: (answer) => {
      for (const name of [...touches, "audit"]) void queries.invalidateQueries({ queryKey: [name] });
      if (done) say({ kind: "good", text: done(answer) });
      if (!after) onClose();
    },
  });
  return (
    <Sheet title={title} opened onClose={onClose}>
      {after && act.isSuccess ? (
        after(act.data)
      ) : (
        <form
          className="form"
          onSubmit={(event) => {
            event.preventDefault();
            if (!disabled) act.mutate();
          }}
        >
          {children(act.error)}
          <ProblemNote error={act.error} />
          <div className="form-actions">
            <button type="button" className="btn" onClick={onClose}>
              Cancel
            </button>
            <button type="submit" className="btn primary" disabled={disabled || act.isPending}>
              {act.isPending ? "Asking…" : verb}
            </button>
          </div>
        </form>
      )}
    </Sheet>
  );
}
