import { age } from "../lib/format";
import { freshness } from "../live/freshness";

const WORDS = { live: "Live", late: "Late", stale: "Stale", unknown: "No report" } as const;

/** Dot and age of a report: live below 3 s, late to 10 s, then stale. */
export function AgeLabel({
  heardAt,
  now,
  word = false,
}: {
  heardAt: number | null;
  now: number;
  word?: boolean;
}) {
  const { freshness: kind, age: seconds } = freshness(heardAt, now);
  return (
    <span className={`age age-${kind}`}>
      <span className="age-dot" aria-hidden />
      {(word || kind !== "live") && <span>{WORDS[kind]}</span>}
      {seconds !== null && <span className="age-value">{age(seconds)} ago</span>}
    </span>
  );
}
