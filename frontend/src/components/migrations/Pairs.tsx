import type { MovePair } from "../../api/shapes";
import { count, duration } from "../../lib/format";
import { type Column, DataTable } from "../DataTable";

interface PairsProps {
  pairs: readonly MovePair[];
  chosen: { source: string; destination: string };
  onChoose: (source: string, destination: string) => void;
}

/** From where to where, how often, how long the pause was; a row narrows the page to its pair. */
export function Pairs({ pairs, chosen, onChoose }: PairsProps) {
  const most = Math.max(1, ...pairs.map((pair) => pair.total));
  const isChosen = (pair: MovePair) =>
    pair.source === chosen.source && pair.destination === chosen.destination;
  const columns: Column<MovePair>[] = [
    {
      head: "From → to",
      className: "nowrap",
      cell: (pair) => (
        <>
          <button
            type="button"
            className="link"
            aria-pressed={isChosen(pair)}
            onClick={() => (isChosen(pair) ? onChoose("", "") : onChoose(pair.source, pair.destination))}
          >
            {pair.source} → {pair.destination}
          </button>
          <span className="pair-bar" aria-hidden>
            <span style={{ width: `${(pair.done / most) * 100}%` }} />
            <span className="is-stopped" style={{ width: `${(pair.stopped / most) * 100}%` }} />
          </span>
        </>
      ),
    },
    {
      head: "Moves",
      num: true,
      cell: (pair) => (
        <>
          <b>{count(pair.total)}</b>
          {pair.stopped > 0 && <span className="caption block">{count(pair.stopped)} stopped</span>}
        </>
      ),
    },
    { head: "p50", num: true, cell: (pair) => duration(pair.downtime_p50_ms) },
    { head: "p99", num: true, cell: (pair) => duration(pair.downtime_p99_ms) },
  ];
  return (
    <div className="pairs-scroll">
      <DataTable
        tight
        narrow="table"
        className="pairs"
        label="moves by pair"
        columns={columns}
        rows={pairs}
        rowKey={(pair) => `${pair.source} ${pair.destination}`}
        rowClass={(pair) => (isChosen(pair) ? "is-chosen" : "")}
      />
    </div>
  );
}
