import { Link } from "react-router";
import { count } from "../lib/format";
import type { Problem } from "../lib/problems";
import { ActionButton } from "./ActionButton";
import { useDialog } from "./dialogs/DialogProvider";
import { Mark } from "./Mark";

const SHOWN = 5;

/** The top problems, each with something to do. */
export function Problems({ found }: { found: readonly Problem[] }) {
  return (
    <section className="card problems" aria-label="problems">
      <div className="card-head">
        <h2>Problems</h2>
        <span className="aside">{found.length ? `${count(found.length)} open, worst first` : ""}</span>
      </div>
      {found.length === 0 ? (
        <p className="empty t2">
          <Mark shape="good" /> None now.
        </p>
      ) : (
        <ul>
          {found.slice(0, SHOWN).map((problem) => (
            <li key={problem.key}>
              <Mark shape={problem.level} />
              <div>
                <div className="problem-title">{problem.title}</div>
                <div className="detail t2">{problem.detail}</div>
              </div>
              <Action problem={problem} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function Action({ problem: { action } }: { problem: Problem }) {
  const open = useDialog();
  if (action === null) return null;
  if (action.kind === "page") {
    return (
      <Link className="btn small" to={action.to}>
        {action.name}
      </Link>
    );
  }
  if (action.kind === "open") {
    return (
      <Link className="btn small" to={`/instances/${action.instance}`}>
        Show {action.instance}
      </Link>
    );
  }
  const { kind, instance } = action;
  return (
    <ActionButton className="small" onClick={() => open({ kind, instanceId: instance })}>
      {kind === "drain" ? "Drain" : "Undrain"} {instance}…
    </ActionButton>
  );
}
