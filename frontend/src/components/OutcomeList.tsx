import { count } from "../lib/format";
import { outcomeOf, stopShort } from "../lib/words";
import type { Migration } from "../live/types";
import { Mark } from "./Mark";

/** How the loaded moves ended, most frequent first, with the pairs where they stopped. */
export function OutcomeList({ moves }: { moves: readonly Migration[] }) {
  const groups = new Map<string, { number: number; late: boolean; paths: Map<string, number> }>();
  for (const move of moves) {
    const finished = move.state === "done";
    const name = finished ? "Finished" : stopShort(move);
    const group = groups.get(name) ?? { number: 0, late: outcomeOf(move) === "late", paths: new Map() };
    group.number += 1;
    if (!finished) group.paths.set(move.source, (group.paths.get(move.source) ?? 0) + 1);
    groups.set(name, group);
  }
  const rows = [...groups].sort((a, b) => b[1].number - a[1].number || a[0].localeCompare(b[0]));
  return (
    <section className="card" aria-label="outcomes">
      <div className="card-head">
        <h2>Outcomes</h2>
        <span className="aside">of those loaded</span>
      </div>
      {rows.length === 0 ? (
        <p className="empty t2">No move has ended yet.</p>
      ) : (
        <ul className="checks">
          {rows.map(([name, group]) => (
            <li key={name}>
              <Mark shape={name === "Finished" ? "good" : group.late ? "risk" : "stopped"} />{" "}
              <span>{name}</span>
              <span className="caption">
                {[...group.paths]
                  .slice(0, 2)
                  .map(([path, number]) => `${path} ${number}`)
                  .join(" · ")}
              </span>
              <b className="num">{count(group.number)}</b>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
