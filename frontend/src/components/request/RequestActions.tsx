import { useState } from "react";
import { post } from "../../api/client";
import type { RequestDetail } from "../../api/shapes";
import { byRank } from "../../lib/fleet";
import { shortId } from "../../lib/words";
import { useShown } from "../../live/context";
import { ActionButton } from "../ActionButton";
import { Picker } from "../Choices";
import { useDialog } from "../dialogs/DialogProvider";
import { FormDialog } from "../dialogs/FormDialog";
import { ReasonField } from "../dialogs/Reason";

/** What can be done with a request while it lives: another class, another instance, the end. */
export function RequestActions({ request }: { request: RequestDetail }) {
  const open = useDialog();
  const over = request.finished_at ? "it is finished" : "";
  const id = encodeURIComponent(request.request_id);
  return (
    <>
      <ActionButton
        blocked={over}
        onClick={() =>
          open({ kind: "form", content: (close) => <SetClass request={request} onClose={close} /> })
        }
      >
        Set class…
      </ActionButton>
      <ActionButton
        blocked={over || (request.instance ? "" : "it is on no instance")}
        onClick={() =>
          open({ kind: "migrate", sourceId: request.instance ?? undefined, requestId: request.request_id })
        }
      >
        Migrate…
      </ActionButton>
      <ActionButton
        className="danger"
        blocked={over}
        onClick={() =>
          open({
            kind: "confirm",
            title: `Cancel ${shortId(request.request_id)}?`,
            text: "Its stream ends where it is; the client keeps what it was sent and is told that the request was cancelled. This cannot be undone.",
            verb: "Cancel the request",
            danger: true,
            run: (reason) => post(`requests/${id}/cancel`, { change_reason: reason }),
            done: `${shortId(request.request_id)} is being cancelled.`,
            touches: ["request", "requests"],
          })
        }
      >
        Cancel…
      </ActionButton>
    </>
  );
}

function SetClass({ request, onClose }: { request: RequestDetail; onClose: () => void }) {
  const { state } = useShown();
  const classes = state ? byRank(state) : [];
  const [name, setName] = useState(request.slo_class_served);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={`Class of ${shortId(request.request_id)}`}
      verb={`Serve it as ${name}`}
      onClose={onClose}
      disabled={name === request.slo_class_served}
      run={() =>
        post(`requests/${encodeURIComponent(request.request_id)}/set-class`, {
          slo_class: name,
          change_reason: reason,
        })
      }
      done={() => `${shortId(request.request_id)} is served as ${name} from its next step on.`}
      touches={["request", "requests"]}
    >
      {() => (
        <>
          <p className="t2">
            It is served as {request.slo_class_served} now. The class decides who gets the next memory and
            which targets count; the tenant's other requests keep theirs.
          </p>
          <Picker
            label="Class"
            value={name}
            options={classes.map((row) => [row.name, row.name] as const)}
            onChange={setName}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
