import type { ReactNode } from "react";
import { Link } from "react-router";
import type { Cell, Situation } from "../lib/situation";
import { Mark } from "./Mark";

/** The sentence of health and its five answers, always in the same places. */
export function SituationCard({
  found,
  aside,
  actions,
}: {
  found: Situation;
  aside: ReactNode;
  actions: ReactNode;
}) {
  return (
    <section className={`card situation level-${found.level}`} aria-label="situation">
      <div className="situation-head">
        <Mark shape={found.level} size={18} />
        <h1 aria-live="polite">{found.sentence}</h1>
        <span className="aside t3 detail">{aside}</span>
      </div>
      <div className="situation-cells">
        <CellView cell={found.who} />
        <CellView cell={found.where} />
        <CellView cell={found.doing} mark={found.doing.link === "/migrations" ? "moving" : undefined} />
        <div className="situation-cell has-actions">
          <div className="caption wide">What you can do</div>
          {actions}
        </div>
        <CellView cell={found.proof} />
      </div>
    </section>
  );
}

/** On a phone, in front of the line. */
const SHORT: Record<string, string> = { "Who is hurt": "Hurt", "What Llumdeck is doing": "Doing" };

function CellView({ cell, mark }: { cell: Cell; mark?: "moving" | undefined }) {
  return (
    <div className="situation-cell">
      <div className="caption">
        <span className="title-long">{cell.title}</span>
        <span className="title-short">{SHORT[cell.title] ?? cell.title}</span>
      </div>
      <div className="situation-main">
        {mark && <Mark shape={mark} />} {cell.link ? <Link to={cell.link}>{cell.main}</Link> : cell.main}
      </div>
      <div className="detail t2">{cell.detail}</div>
    </div>
  );
}
