import { OPEN_STATES, useWhatIf, useWhatIfJobs, type WhatIfJob } from "../../api/whatif";
import { ProblemNote } from "../../components/dialogs/Problem";
import { Mark } from "../../components/Mark";
import { AskForm } from "../../components/whatif/AskForm";
import { ResultCard } from "../../components/whatif/ResultCard";
import { fullTime, moment } from "../../lib/format";
import { useUrlState } from "../../lib/urlState";
import { useShown } from "../../live/context";

/** What would another policy have done? Two policies on one traffic, simulated by the code that decides. */
export function WhatIf({ pool }: { pool: string }) {
  const { screenNow: now } = useShown();
  const jobs = useWhatIfJobs(pool);
  const [chosen, choose] = useUrlState<string>("job", "");
  const shown = chosen || String(jobs.data?.[0]?.id ?? "");
  const job = useWhatIf(shown);
  return (
    <div className="grid split list-first">
      <div className="side unstuck">
        <section className="card" aria-label="what if">
          <div className="card-head">
            <h2>What if</h2>
            <span className="aside">simulated beside the fleet, which notices nothing</span>
          </div>
          <AskForm key={pool} pool={pool} onAsked={(id) => choose(String(id))} />
        </section>
        <section className="card" aria-label="comparisons">
          <div className="card-head">
            <h2>Comparisons</h2>
          </div>
          <ProblemNote error={jobs.error} />
          {jobs.data?.length === 0 && <p className="empty">None yet: ask above.</p>}
          {jobs.data?.map((row) => (
            <JobRow
              key={row.id}
              row={row}
              now={now}
              current={String(row.id) === shown}
              onChoose={() => choose(String(row.id))}
            />
          ))}
        </section>
      </div>
      <div className="side unstuck">
        <ProblemNote error={job.error} />
        {job.data ? (
          <ResultCard job={job.data} />
        ) : (
          shown === "" && (
            <section className="card card-body">
              <h2 className="words-title">Before you change a policy</h2>
              <p className="t2">
                Take what this pool served, or a trace file, and let two policies serve it in a simulation:
                the same core decides, only the engines are computed. The answer says how long requests would
                have waited, how many would have kept their targets, and what it costs in moves.
              </p>
            </section>
          )
        )}
      </div>
    </div>
  );
}

interface RowProps {
  row: WhatIfJob;
  now: number;
  current: boolean;
  onChoose: () => void;
}

function JobRow({ row, now, current, onChoose }: RowProps) {
  const at = Date.parse(row.created_at) / 1000;
  const names = row.policies.map((each) => String(each.name));
  const state = row.state ?? "queued";
  const shape =
    state === "done"
      ? "good"
      : state === "failed"
        ? "hurt"
        : OPEN_STATES.includes(state)
          ? "moving"
          : "stopped";
  return (
    <button type="button" className="round-row" aria-current={current} onClick={onChoose}>
      <span>
        <Mark shape={shape} size={12} label={state} /> {row.id}
      </span>
      <span>
        {names[0]} against {names[1]}
        <span className="detail t3 block">
          {state}, by {row.created_by}
        </span>
      </span>
      <span className="t3 detail" title={fullTime(at)}>
        {moment(at, now)}
      </span>
    </button>
  );
}
