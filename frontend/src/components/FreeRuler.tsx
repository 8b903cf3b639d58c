import { freeTokens, isFresh, isServing, type Totals } from "../lib/fleet";
import { count, percentNumber } from "../lib/format";
import type { Instance } from "../live/types";
import { Stat } from "./Stat";

const SHOWN = 10;

/** Free memory never stands without the largest request that could be placed now. */
export function FreeRuler({
  instances,
  sums,
  now,
}: {
  instances: readonly Instance[];
  sums: Totals;
  now: number;
}) {
  const gaps = instances
    .filter((item) => isServing(item) && isFresh(item, now))
    .map((item) => ({ id: item.id, tokens: freeTokens(item) ?? 0 }))
    .sort((a, b) => b.tokens - a.tokens || a.id.localeCompare(b.id));
  const shown = gaps.slice(0, SHOWN);
  const scale = Math.max(1, gaps[0]?.tokens ?? 0, sums.wanted?.tokens ?? 0);
  return (
    <section className="card" aria-label="free memory">
      <div className="card-head">
        <h2>Free memory</h2>
        <span className="aside">tokens one new request can get</span>
      </div>
      <div className="card-body">
        <div className="stats stats-plain">
          <Stat
            value={sums.totalTokens ? percentNumber(sums.freeTokens / sums.totalTokens) : "–"}
            unit={sums.totalTokens ? "%" : ""}
            caption={`free in total, ${sums.totalTokens ? count(sums.freeTokens) : "–"} tokens`}
          />
          <Stat
            value={sums.largest ? count(sums.largest.tokens) : "–"}
            unit={sums.largest ? "tokens" : ""}
            caption={
              sums.largest ? (
                <>
                  largest placeable, <span className="nowrap">{sums.largest.instance}</span>
                </>
              ) : (
                "no instance takes work"
              )
            }
          />
        </div>
        <div className="ruler">
          {shown.map((gap) => (
            <RulerRow key={gap.id} label={gap.id} share={gap.tokens / scale} text={count(gap.tokens)} />
          ))}
          {gaps.length > SHOWN && (
            <div className="caption">and {count(gaps.length - SHOWN)} smaller gaps</div>
          )}
          {sums.wanted && (
            <RulerRow
              label="waiting"
              share={sums.wanted.tokens / scale}
              text={`needs ${count(sums.wanted.tokens)}${sums.wanted.instance ? `, on ${sums.wanted.instance}` : ", in front"}`}
              wanted
            />
          )}
        </div>
      </div>
    </section>
  );
}

function RulerRow({
  label,
  share,
  text,
  wanted,
}: {
  label: string;
  share: number;
  text: string;
  wanted?: boolean;
}) {
  const inside = share > 0.45;
  return (
    <div className={`ruler-row ${wanted ? "ruler-wanted" : ""}`}>
      <span title={label}>{label}</span>
      <div className="ruler-track">
        <div className="ruler-bar" style={{ width: `${share * 100}%` }} />
        <span
          className={`ruler-number ${wanted ? "strong" : ""}`}
          style={inside ? { right: `${(1 - share) * 100}%` } : { left: `${share * 100}%` }}
        >
          {text}
        </span>
      </div>
    </div>
  );
}
