import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import type { Tenant } from "../../api/types";
import { byRank } from "../../lib/fleet";
import { count, duration } from "../../lib/format";
import { useShown } from "../../live/context";
import type { SloClass } from "../../live/types";
import { ClassMark } from "../ClassMark";
import { useSay } from "../Notices";
import type { DialogCall } from "./DialogProvider";
import { ProblemNote } from "./Problem";
import { ReasonField } from "./Reason";
import { Sheet } from "./Sheet";

type ClassCall = Extract<DialogCall, { kind: "class" }>;

export function ClassDialog({ call, onClose }: { call: ClassCall; onClose: () => void }) {
  const { state } = useShown();
  const [chosen, setChosen] = useState(call.current);
  const [reason, setReason] = useState("");
  const change = useChange(onClose);
  const classes = state ? byRank(state) : [];
  const row = classes.find((item) => item.name === chosen);
  return (
    <Sheet title={`Class of ${call.tenant}`} opened onClose={onClose}>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          change.mutate({ tenant: call.tenant, slo_class: chosen, reason });
        }}
      >
        <fieldset className="choices">
          <legend className="visually-hidden">SLO class</legend>
          {classes.map((item) => (
            <label key={item.name} className={`choice ${item.name === chosen ? "is-chosen" : ""}`}>
              <input
                type="radio"
                name="slo_class"
                value={item.name}
                checked={item.name === chosen}
                onChange={() => setChosen(item.name)}
              />
              <ClassMark name={item.name} />
              <span>
                <b>{item.name}</b> {item.name === call.current && <span className="t3">now</span>}
                <span className="detail t2 block">{promise(item)}</span>
              </span>
            </label>
          ))}
        </fieldset>
        {row && chosen !== call.current && (
          <div>
            <h3 className="strong">What this does</h3>
            <p className="detail t2">{effect(call, row, classes)}</p>
          </div>
        )}
        <ReasonField value={reason} onChange={setReason} />
        <ProblemNote error={change.error} />
        <div className="form-actions">
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          <button
            type="submit"
            className="btn primary"
            disabled={chosen === call.current || change.isPending}
          >
            {chosen === call.current ? "Change class" : `Serve ${call.tenant} as ${chosen}`}
          </button>
        </div>
      </form>
    </Sheet>
  );
}

function promise(row: SloClass): string {
  const first =
    row.ttft_target_ms === null
      ? "no target for the first token"
      : `first token within ${duration(row.ttft_target_ms)}`;
  const next =
    row.tpot_target_ms === null
      ? "no target for the next ones"
      : `${duration(row.tpot_target_ms)} per token after`;
  return `${first}, ${next}`;
}

function effect(call: ClassCall, row: SloClass, classes: SloClass[]): string {
  const before = classes.filter((item) => item.rank < row.rank).map((item) => item.name);
  const order = before.length ? `after ${before.join(" and ")}` : "first of all";
  const room =
    row.target_load_tokens === null
      ? "It keeps no memory free for itself."
      : `An instance that hosts it is filled by others up to ${count(row.target_load_tokens)} tokens only.`;
  return `New requests of ${call.tenant} that name no class are served as ${row.name}, ${order}. ${room} Requests already running keep their class.`;
}

function useChange(onDone: () => void) {
  const say = useSay();
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ tenant, ...body }: { tenant: string; slo_class: string; reason: string }) =>
      post<Tenant>(`tenants/${tenant}/class`, body),
    onSuccess: (answer) => {
      void queries.invalidateQueries({ queryKey: ["tenants"] });
      void queries.invalidateQueries({ queryKey: ["audit"] });
      say({ kind: "good", text: `${answer.slug} is served as ${answer.slo_class} from now on.` });
      onDone();
    },
  });
}
