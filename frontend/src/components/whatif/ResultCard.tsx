import { post } from "../../api/client";
import { answerOf, OPEN_STATES, type SystemRun, type WhatIfDetail } from "../../api/whatif";
import { duration, fixed, percent, plural } from "../../lib/format";
import { compareRows, points, verdict } from "../../lib/whatIf";
import { ActionButton } from "../ActionButton";
import { type Column, DataTable } from "../DataTable";
import { useDialog } from "../dialogs/DialogProvider";
import { Mark } from "../Mark";
import { CompareLines } from "./CompareLines";

/** One comparison: under way, failed with its reason, or both policies side by side. */
export function ResultCard({ job }: { job: WhatIfDetail }) {
  const open = useDialog();
  const running = OPEN_STATES.includes(job.state ?? "");
  const answer = answerOf(job);
  const names = job.policies.map((each) => each.name);
  return (
    <section className="card" aria-label="comparison">
      <div className="card-head wraps">
        <h2>
          {names[0]} against {names[1]}
        </h2>
        <span className="t3">
          on {plural(job.instances, "instance")}, timed as {job.latency}
        </span>
        {running && (
          <span className="aside">
            <ActionButton
              className="small"
              onClick={() =>
                open({
                  kind: "confirm",
                  title: "Stop this comparison?",
                  text: "It ends within a second; nothing of it is kept.",
                  verb: "Stop the comparison",
                  run: (reason) => post(`what-if/jobs/${job.id}/cancel`, { change_reason: reason }),
                  done: "The comparison was stopped.",
                  touches: ["what-if"],
                })
              }
            >
              Stop…
            </ActionButton>
          </span>
        )}
      </div>
      {running && (
        <p className="empty" role="status">
          {job.state === "queued" ? "Waiting for a free worker…" : "Simulating…"} You may leave; it goes on.
        </p>
      )}
      {job.state === "failed" && (
        <p className="note critical">
          <Mark shape="hurt" /> <span>It could not be simulated: {job.problem}</span>
        </p>
      )}
      {job.state === "cancelled" && <p className="empty">It was stopped before it ended.</p>}
      {answer && <Compared first={answer.systems[0]} second={answer.systems[1]} />}
    </section>
  );
}

function Compared({ first, second }: { first: SystemRun; second: SystemRun }) {
  const names = [first.name, second.name] as const;
  const seconds = (value: number) => duration(value * 1000);
  const share = (value: number) => percent(value, value < 0.01 ? 2 : 0);
  return (
    <>
      <CompareTable first={first} second={second} />
      <div className="compare-legend detail">
        <span className="compare-key is-first" aria-hidden /> {first.name}
        <span className="compare-key is-second" aria-hidden /> {second.name}
      </div>
      <div className="compare-grid">
        <CompareLines
          title="First token"
          note="share of requests that waited longer"
          names={names}
          lines={[first.prefill_ccdf, second.prefill_ccdf]}
          x={{ log: true, show: seconds }}
          y={{ log: true, show: share }}
        />
        <CompareLines
          title="Whole request"
          note="share that took longer"
          names={names}
          lines={[first.request_ccdf, second.request_ccdf]}
          x={{ log: true, show: seconds }}
          y={{ log: true, show: share }}
        />
        <CompareLines
          title="Waiting"
          note="requests, over the run"
          names={names}
          lines={[
            points(first.series.at_s, first.series.waiting),
            points(second.series.at_s, second.series.waiting),
          ]}
          x={{ log: false, show: seconds }}
          y={{ log: false, show: (value) => fixed(value, 0) }}
        />
        <CompareLines
          title="Memory used"
          note="of the fleet, over the run"
          names={names}
          lines={[
            points(first.series.at_s, first.series.used_share),
            points(second.series.at_s, second.series.used_share),
          ]}
          x={{ log: false, show: seconds }}
          y={{ log: false, show: (value) => percent(value, 0) }}
        />
      </div>
    </>
  );
}

function CompareTable({ first, second }: { first: SystemRun; second: SystemRun }) {
  const columns: Column<ReturnType<typeof compareRows>[number]>[] = [
    { head: plural(second.metrics.service.all.requests, "request"), cell: (row) => row.name },
    { head: first.name, num: true, className: "t2", cell: (row) => row.first },
    { head: second.name, num: true, className: "strong", cell: (row) => row.second },
    { head: "Second to first", num: true, className: "nowrap", cell: (row) => <Verdict row={row} /> },
  ];
  return (
    <DataTable
      tight
      narrow="table"
      label="both policies in numbers"
      columns={columns}
      rows={compareRows(first, second)}
      rowKey={(row) => row.name}
    />
  );
}

function Verdict({ row }: { row: ReturnType<typeof compareRows>[number] }) {
  const found = verdict(row);
  return (
    <>
      {row.factor !== null && `${fixed(row.factor, 2)}×`}{" "}
      {found === "better" && <Mark shape="good" size={12} label="better" />}
      {found === "worse" && <Mark shape="risk" size={12} label="worse" />}
    </>
  );
}
