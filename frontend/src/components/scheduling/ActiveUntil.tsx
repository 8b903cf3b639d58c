import { activatePolicy, type PolicyVersion } from "../../api/scheduling";
import { clock, lasting } from "../../lib/format";
import { ActionButton } from "../ActionButton";
import { useDialog } from "../dialogs/DialogProvider";
import { Mark } from "../Mark";

/** A policy that goes by itself says when, and offers to stay. */
export function ActiveUntil({ active, now }: { active: PolicyVersion; now: number }) {
  const open = useDialog();
  if (!active.active_until) return null;
  const until = Date.parse(active.active_until) / 1000;
  const before = active.previous ? `v${active.previous}` : "the version before";
  return (
    <div className="banner" role="status">
      <Mark shape="risk" />
      <span>
        v{active.version} is active until {clock(until)} UTC, for {lasting(until - now)} more; then {before}{" "}
        comes back.
      </span>
      <span className="push" />
      <ActionButton
        className="small"
        onClick={() =>
          open({
            kind: "confirm",
            title: `Keep v${active.version} of ${active.pool}?`,
            text: "It stays active until somebody activates another version.",
            verb: `Keep v${active.version}`,
            run: (reason) => activatePolicy(active.id, reason),
            done: `v${active.version} of ${active.pool} stays active.`,
            touches: ["policies"],
          })
        }
      >
        Keep it…
      </ActionButton>
    </div>
  );
}
