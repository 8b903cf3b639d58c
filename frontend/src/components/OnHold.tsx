import type { Hold } from "../lib/holds";
import { Mark, type Shape } from "./Mark";

/** A part is away: what still works, and what waits for it. */
export function OnHold({ hold }: { hold: Hold }) {
  return (
    <div className="grid two-lists">
      <List title="Still works" aside={hold.worksAside} lines={hold.works} shape="good" />
      <List title={`On hold ${hold.until}`} aside={hold.waitsAside} lines={hold.waits} shape="stopped" />
    </div>
  );
}

interface ListProps {
  title: string;
  aside: string;
  lines: Hold["works"];
  shape: Shape;
}

function List({ title, aside, lines, shape }: ListProps) {
  return (
    <section className="card" aria-label={title}>
      <div className="card-head">
        <h2>{title}</h2>
        {aside && <span className="aside">{aside}</span>}
      </div>
      <ul>
        {lines.map(([name, detail]) => (
          <li key={name}>
            <Mark shape={shape} /> <span>{name}</span> <span className="t3">{detail}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
