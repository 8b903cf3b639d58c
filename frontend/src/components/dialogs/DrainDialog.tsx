import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import type { InstanceRow } from "../../api/types";
import { drainImpact } from "../../lib/drain";
import { loopDownSince } from "../../lib/holds";
import { useShown } from "../../live/context";
import { DrainFacts } from "../DrainFacts";
import { Mark } from "../Mark";
import { useSay } from "../Notices";
import { ProblemNote } from "./Problem";
import { ReasonField } from "./Reason";
import { Sheet } from "./Sheet";

interface DrainProps {
  instanceId: string;
  undo: boolean;
  onClose: () => void;
}

export function DrainDialog({ instanceId, undo, onClose }: DrainProps) {
  const { state, now } = useShown();
  const [reason, setReason] = useState("");
  const drain = useDrain(onClose);
  const instance = state?.instances.get(instanceId);
  const verb = undo ? "Undrain" : "Drain";
  return (
    <Sheet title={`${verb} ${instanceId}?`} opened onClose={onClose}>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          drain.mutate({ instanceId, undo, reason });
        }}
      >
        <p className="t2">
          {undo
            ? "It takes new requests again. Requests that already left stay where they are."
            : "Its requests move away while they keep decoding. New ones go elsewhere. You can undo until the last request has left."}
        </p>
        {!undo && state && instance && (
          <DrainFacts id={instanceId} impact={drainImpact(state, instance, now)} />
        )}
        {state && loopDownSince(state) !== undefined && (
          <div className="note">
            <Mark shape="risk" />
            <span>
              <b>The rebalancing loop does not tick now.</b> {verb} is written down and begins when it leads
              again.
            </span>
          </div>
        )}
        <ReasonField value={reason} onChange={setReason} />
        <ProblemNote error={drain.error} />
        <div className="form-actions">
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="btn primary" disabled={drain.isPending}>
            {drain.isPending ? "Asking…" : `${verb} ${instanceId}`}
          </button>
        </div>
      </form>
    </Sheet>
  );
}

interface DrainCall {
  instanceId: string;
  undo: boolean;
  reason: string;
}

function useDrain(onDone: () => void) {
  const say = useSay();
  const queries = useQueryClient();
  const undoDrain = useMutation({
    mutationFn: (id: string) => post(`instances/${id}/undrain`, { reason: "undo" }),
    onSuccess: (_, id) => say({ kind: "good", text: `${id} takes requests again.` }),
    onError: (error, id) => say({ kind: "hurt", text: `${id} was not undrained: ${error.message}` }),
  });
  return useMutation({
    mutationFn: ({ instanceId, undo, reason }: DrainCall) =>
      post<InstanceRow>(`instances/${instanceId}/${undo ? "undrain" : "drain"}`, { reason }),
    onSuccess: (_, { instanceId, undo }) => {
      void queries.invalidateQueries({ queryKey: ["audit"] });
      if (undo) say({ kind: "good", text: `${instanceId} takes requests again.` });
      else {
        say({
          kind: "good",
          text: `${instanceId} is draining; its requests move away.`,
          action: { label: "Undo", run: () => undoDrain.mutate(instanceId) },
        });
      }
      onDone();
    },
  });
}
