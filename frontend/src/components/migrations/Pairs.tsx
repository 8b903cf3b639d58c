import type { MovePair } from "../../api/shapes";
import { count, duration } from "../../lib/format";

interface PairsProps {
  pairs: readonly MovePair[];
  chosen: { source: string; destination: string };
  onChoose: (source: string, destination: string) => void;
}

/** From where to where, how often, how long the pause was; a row narrows the page to its pair. */
export function Pairs({ pairs, chosen, onChoose }: PairsProps) {
  const most = Math.max(1, ...pairs.map((pair) => pair.total));
  return (
    <div className="pairs-scroll">
      <table className="table tight pairs" aria-label="moves by pair">
        <thead>
          <tr>
            <th>From → to</th>
            <th className="num">Moves</th>
            <th className="num">p50</th>
            <th className="num">p99</th>
          </tr>
        </thead>
        <tbody>
          {pairs.map((pair) => {
            const current = pair.source === chosen.source && pair.destination === chosen.destination;
            return (
              <tr key={`${pair.source} ${pair.destination}`} className={current ? "is-chosen" : ""}>
                <td className="nowrap">
                  <button
                    type="button"
                    className="link"
                    aria-pressed={current}
                    onClick={() => (current ? onChoose("", "") : onChoose(pair.source, pair.destination))}
                  >
                    {pair.source} → {pair.destination}
                  </button>
                  <span className="pair-bar" aria-hidden>
                    <span style={{ width: `${(pair.done / most) * 100}%` }} />
                    <span className="is-stopped" style={{ width: `${(pair.stopped / most) * 100}%` }} />
                  </span>
                </td>
                <td className="num">
                  <b>{count(pair.total)}</b>
                  {pair.stopped > 0 && <span className="caption block">{count(pair.stopped)} stopped</span>}
                </td>
                <td className="num">{duration(pair.downtime_p50_ms)}</td>
                <td className="num">{duration(pair.downtime_p99_ms)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
