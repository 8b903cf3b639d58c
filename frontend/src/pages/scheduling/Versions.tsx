import { useState } from "react";
import { post } from "../../api/client";
import { activatePolicy, type PolicyVersion, usePolicies } from "../../api/scheduling";
import { ActionButton } from "../../components/ActionButton";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { ProblemNote } from "../../components/dialogs/Problem";
import { Mark } from "../../components/Mark";
import { ActivateDialog } from "../../components/scheduling/ActivateDialog";
import { fullTime, moment } from "../../lib/format";
import { useShown } from "../../live/context";
import { Diff } from "./Policy";

/** Every version that was made, who activated it when, and the way back. */
export function Versions({ pool }: { pool: string }) {
  const { screenNow: now } = useShown();
  const open = useDialog();
  const versions = usePolicies(pool);
  const [chosen, choose] = useState<number | null>(null);
  const rows = versions.data?.results ?? [];
  const active = rows.find((row) => row.active);
  const shown = rows.find((row) => row.id === chosen) ?? rows.find((row) => !row.active);
  return (
    <div className="grid split">
      <section className="card" aria-label="versions">
        <div className="card-head">
          <h2>Versions of {pool}</h2>
          <span className="aside">
            <ActionButton
              className="small"
              blocked={rows.length < 2 ? "there is no earlier version" : ""}
              onClick={() =>
                open({
                  kind: "confirm",
                  title: `Roll back the policy of ${pool}?`,
                  text: "The version that was active before this one takes effect at the next tick.",
                  verb: "Roll back",
                  run: (reason) => post("policies/rollback", { pool, change_reason: reason }),
                  done: `The earlier policy of ${pool} is active again.`,
                  touches: ["policies"],
                })
              }
            >
              Roll back…
            </ActionButton>
          </span>
        </div>
        <ProblemNote error={versions.error} />
        {rows.length === 0 && !versions.isPending ? (
          <p className="empty">No version was ever made: the core's defaults decide.</p>
        ) : (
          rows.map((row) => (
            <VersionRow
              key={row.id}
              row={row}
              now={now}
              current={row.id === shown?.id}
              onChoose={() => choose(row.id)}
            />
          ))
        )}
      </section>
      {shown && active && (
        <section className="card" aria-label="difference to the active version">
          <div className="card-head">
            <h2>
              v{active.version} → v{shown.version}
            </h2>
            <span className="aside">
              <ActionButton
                className="small"
                blocked={shown.active ? "it is active" : ""}
                onClick={() =>
                  open({
                    kind: "form",
                    content: (close) => (
                      <ActivateDialog
                        title={`Activate v${shown.version} of ${pool}?`}
                        name={`v${shown.version}`}
                        before={`v${active.version}`}
                        pool={pool}
                        run={(reason, forS) => activatePolicy(shown.id, reason, forS)}
                        onClose={close}
                      >
                        <Diff before={active.config} after={shown.config} />
                      </ActivateDialog>
                    ),
                  })
                }
              >
                Activate v{shown.version}…
              </ActionButton>
            </span>
          </div>
          <div className="card-body">
            <Diff before={active.config} after={shown.config} />
          </div>
        </section>
      )}
    </div>
  );
}

function VersionRow({
  row,
  now,
  current,
  onChoose,
}: {
  row: PolicyVersion;
  now: number;
  current: boolean;
  onChoose: () => void;
}) {
  const made = Date.parse(row.created_at) / 1000;
  return (
    <button type="button" className="round-row" aria-current={current} onClick={onChoose}>
      <span className="strong">
        v{row.version} {row.active && <Mark shape="good" size={12} label="active" />}
      </span>
      <span>
        {row.comment || <span className="t3">no reason given</span>}
        <span className="detail t3 block">
          by {row.created_by}
          {row.activated_by ? `, activated by ${row.activated_by}` : ""}
        </span>
      </span>
      <span className="t3 detail" title={fullTime(made)}>
        {moment(made, now)}
      </span>
    </button>
  );
}
