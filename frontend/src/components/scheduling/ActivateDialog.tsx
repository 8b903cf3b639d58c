import { type ReactNode, useState } from "react";
import { Segmented } from "../Choices";
import { FormDialog } from "../dialogs/FormDialog";
import { ReasonField } from "../dialogs/Reason";

interface ActivateProps {
  title: string;
  /** The version by its name, as the button says it: "v18", or "the draft". */
  name: string;
  /** What stays the way back. */
  before: string;
  pool: string;
  run: (reason: string, forS: number | null) => Promise<void>;
  onClose: () => void;
  children?: ReactNode;
}

const SPANS = [
  ["", "until changed"],
  ["600", "10 min"],
  ["3600", "1 h"],
  ["28800", "8 h"],
] as const;
type Span = (typeof SPANS)[number][0];

/** A policy becomes the active one: for good, or for a time after which the one before comes back by itself. */
export function ActivateDialog({ title, name, before, pool, run, onClose, children }: ActivateProps) {
  const [reason, setReason] = useState("");
  const [span, setSpan] = useState<Span>("");
  const words = SPANS.find(([key]) => key === span)?.[1] ?? "";
  return (
    <FormDialog
      title={title}
      verb={span ? `Activate ${name} for ${words}` : `Activate ${name}`}
      onClose={onClose}
      run={() => run(reason, span ? Number(span) : null)}
      done={() =>
        span
          ? `${name} of ${pool} is active for ${words}; then ${before} comes back.`
          : `The new policy of ${pool} is active.`
      }
      touches={["policies"]}
    >
      {() => (
        <>
          <p className="t2">
            It takes effect at the loop's next tick, without a restart; running moves go on.{" "}
            {span
              ? `After ${words} ${before} comes back by itself, whoever is away by then.`
              : `You can roll back to ${before} at any time.`}
          </p>
          <div className="row">
            <span className="t3">Active</span>
            <Segmented label="How long" value={span} options={SPANS} onChange={setSpan} />
          </div>
          {children}
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
