import { useQuery } from "@tanstack/react-query";
import { get } from "../../api/client";
import { type Round, useRounds } from "../../api/scheduling";
import { ProblemNote } from "../../components/dialogs/Problem";
import { WhyCard } from "../../components/scheduling/WhyCard";
import { decisionWhy, decisionWords } from "../../lib/decisionWords";
import { count, moment } from "../../lib/format";
import { rangeWords } from "../../lib/range";
import { useUrlState } from "../../lib/urlState";
import { useShown } from "../../live/context";
import { usePool } from "../../live/pool";
import { useScope } from "../../live/scope";

/** The log of rounds that decided something, and the why-card of one decision. */
export function Decisions() {
  const { pool } = usePool();
  const { range } = useScope();
  const { screenNow: now } = useShown();
  const rounds = useRounds(pool, range);
  const [chosen, choose] = useUrlState<string>("round", "");
  const [place, setPlace] = useUrlState<string>("decision", "0");
  const rows = rounds.data?.pages.flatMap((page) => page.results) ?? [];
  const listed = rows.find((row) => String(row.id) === chosen);
  const asked = useQuery({
    queryKey: ["round", chosen],
    queryFn: () => get<Round>(`rounds/${chosen}`),
    enabled: chosen !== "" && !listed && !rounds.isPending,
  });
  const shown = listed ?? asked.data ?? (chosen === "" ? rows[0] : undefined);
  return (
    <div className="grid split list-first">
      <section className="card" aria-label="rounds">
        <div className="card-head">
          <h2>Rounds</h2>
          <span className="t3">those that decided something, newest first</span>
        </div>
        <ProblemNote error={rounds.error} />
        {rounds.isPending ? (
          <div className="skeleton" style={{ height: 240, margin: 14 }} />
        ) : rows.length === 0 ? (
          <p className="empty">
            No round {rangeWords(range)} decided anything: the fleet is even, or it is empty. The loop looks
            several times a second and keeps only what it decided.
          </p>
        ) : (
          <div className="rounds">
            {rows.map((row) => (
              <RoundRows
                key={row.id}
                row={row}
                now={now}
                current={shown?.id === row.id ? Number(place) : null}
                onChoose={(decision) => {
                  choose(String(row.id));
                  setPlace(String(decision));
                }}
              />
            ))}
            {rounds.hasNextPage && (
              <div className="card-body">
                <button
                  type="button"
                  className="btn small"
                  disabled={rounds.isFetching}
                  onClick={() => void rounds.fetchNextPage()}
                >
                  Load older rounds
                </button>
              </div>
            )}
          </div>
        )}
      </section>
      <div className="side">
        <ProblemNote error={asked.error} />
        {shown && <WhyCard round={shown} place={Math.min(Number(place) || 0, shown.decisions.length - 1)} />}
      </div>
    </div>
  );
}

interface RowsProps {
  row: Round;
  now: number;
  current: number | null;
  onChoose: (decision: number) => void;
}

function RoundRows({ row, now, current, onChoose }: RowsProps) {
  return (
    <>
      {row.decisions.map((decision, index) => (
        <button
          key={index}
          type="button"
          className="round-row"
          aria-current={current === index}
          onClick={() => onChoose(index)}
        >
          <span className="t3">{index === 0 ? moment(Date.parse(row.taken_at) / 1000, now) : ""}</span>
          <span>
            {decisionWords(decision)} <span className="t3 detail">{decisionWhy(decision)}</span>
          </span>
          <span className="t3 detail">{index === 0 ? `#${count(row.id)}` : ""}</span>
        </button>
      ))}
    </>
  );
}
