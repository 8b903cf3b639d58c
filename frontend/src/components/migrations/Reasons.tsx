import type { MigrationSummary } from "../../api/shapes";
import { count, percent } from "../../lib/format";
import { moveRuleWords, stopWords } from "../../lib/words";
import { Mark } from "../Mark";

/** How the moves of a range ended: finished, or stopped for which reason; most frequent first. */
export function Reasons({ sums }: { sums: MigrationSummary }) {
  const groups = new Map<string, number>();
  for (const { reason, total } of sums.reasons) {
    const words = stopWords(reason);
    groups.set(words, (groups.get(words) ?? 0) + total);
  }
  const rows = [...groups].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  const under = sums.total - sums.done - sums.stopped;
  return (
    <ul className="checks">
      <Line shape="good" words="Finished" number={sums.done} total={sums.total} />
      {rows.map(([words, number]) => (
        <Line key={words} shape="stopped" words={words} number={number} total={sums.total} />
      ))}
      {under > 0 && <Line shape="moving" words="Under way" number={under} total={sums.total} />}
    </ul>
  );
}

/** Why moves were begun. */
export function Rules({ sums }: { sums: MigrationSummary }) {
  return (
    <ul className="checks">
      {sums.rules.map((row) => (
        <Line
          key={row.rule}
          shape="moving"
          words={moveRuleWords(row.rule)}
          number={row.total}
          total={sums.total}
        />
      ))}
    </ul>
  );
}

interface LineProps {
  shape: "good" | "stopped" | "moving";
  words: string;
  number: number;
  total: number;
}

function Line({ shape, words, number, total }: LineProps) {
  return (
    <li>
      <Mark shape={shape} /> <span>{words}</span>
      <span className="caption">{percent(total ? number / total : null, 0)}</span>
      <b className="num">{count(number)}</b>
    </li>
  );
}
