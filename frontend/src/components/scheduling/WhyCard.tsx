import type { ReactNode } from "react";
import { Link } from "react-router";
import {
  type Candidate,
  type Decision,
  type Explanation,
  type Round,
  useExplanation,
} from "../../api/scheduling";
import { decisionWhy, decisionWords, ruleText } from "../../lib/decisionWords";
import { count, duration, fixed, percent, separated } from "../../lib/format";
import { shortId } from "../../lib/words";
import { type Column, DataTable } from "../DataTable";
import { ProblemNote } from "../dialogs/Problem";
import { Mark } from "../Mark";

/** Why a decision was taken: rule, source, candidates, the chosen one and by how much, what would change it. */
export function WhyCard({ round, place }: { round: Round; place: number }) {
  const explained = useExplanation(round.id, place);
  const decision = round.decisions[place];
  if (!decision) return null;
  return (
    <section className="card why-card" aria-label="why">
      <div className="card-head">
        <h2>Why: {decisionWords(decision)}</h2>
        <span className="aside mono">round {count(round.id)}</span>
        <span className="detail t3 wide-line">
          {round.taken_at.slice(11, 23)} UTC · policy{" "}
          {round.policy_version === null ? "defaults" : `v${round.policy_version}`} · planned in{" "}
          {duration(round.duration_ms)} · epoch {count(round.epoch)}, tick {count(round.tick)}
        </span>
      </div>
      <ProblemNote error={explained.error} />
      {explained.isPending ? (
        <div className="skeleton" style={{ height: 280, margin: 14 }} />
      ) : (
        explained.data && <Steps explanation={explained.data} decision={decision} />
      )}
      <Answer round={round} place={place} />
    </section>
  );
}

export function Steps({ explanation, decision }: { explanation: Explanation; decision: Decision }) {
  const sources = explanation.candidates.filter((each) => each.role === "source");
  const weighed = explanation.candidates.filter((each) => each.role !== "source");
  return (
    <>
      <Step number={1} title="Rule">
        <p>{ruleText(explanation.rule)}</p>
        {decisionWhy(decision) && <p className="detail t2">{decisionWhy(decision)}</p>}
        <Numbers numbers={explanation.numbers} />
      </Step>
      {sources.length > 0 && (
        <Step number={2} title="Source">
          {sources.map((source) => (
            <p key={source.instance_id}>
              <Link to={`/instances/${source.instance_id}`} className="strong">
                {source.instance_id}
              </Link>{" "}
              freeness <b>{freenessWords(source)}</b> · {count(source.used_tokens)} tokens used ·{" "}
              {count(source.running)} running, {count(source.waiting)} waiting
            </p>
          ))}
        </Step>
      )}
      {weighed.length > 0 && (
        <Step number={3} title="Weighed, as they were then">
          <Candidates rows={weighed} />
        </Step>
      )}
      <Step number={4} title="Chosen">
        <p>
          {separated(explanation.sentence)}
          {explanation.margin !== null && (
            <span className="t2">
              {" "}
              It led the next best by <b>{fixed(explanation.margin, 1)}</b>.
            </span>
          )}
        </p>
      </Step>
      <Step number={5} title="What would have changed it">
        <p className="t2">{separated(explanation.would_change) || "Nothing that is known."}</p>
      </Step>
    </>
  );
}

function Step({ number, title, children }: { number: number; title: string; children: ReactNode }) {
  return (
    <div className="why-step">
      <span className="step-number">{number}</span>
      <div>
        <div className="caption">{title}</div>
        {children}
      </div>
    </div>
  );
}

function Numbers({ numbers }: { numbers: Record<string, number> }) {
  const rows = Object.entries(numbers);
  if (rows.length === 0) return null;
  return (
    <p className="detail t3 mono">
      {rows
        .map(
          ([name, value]) =>
            `${name.replaceAll("_", " ")} ${Number.isInteger(value) ? count(value) : fixed(value, 2)}`,
        )
        .join(" · ")}
    </p>
  );
}

function freenessWords(row: Candidate): string {
  return row.freeness_tokens === null ? "–∞, it drains" : count(row.freeness_tokens);
}

function Candidates({ rows }: { rows: readonly Candidate[] }) {
  const most = Math.max(1, ...rows.map((row) => row.freeness_tokens ?? 0));
  const order = { chosen: 0, candidate: 1, source: 2, dropped: 3 };
  const sorted = [...rows].sort(
    (a, b) => order[a.role] - order[b.role] || (b.score ?? -Infinity) - (a.score ?? -Infinity),
  );
  return (
    <DataTable
      tight
      columns={columns(most)}
      rows={sorted}
      rowKey={(row) => row.instance_id}
      rowClass={(row) => (row.role === "dropped" ? "is-dropped" : row.role === "chosen" ? "is-chosen" : "")}
    />
  );
}

function columns(most: number): Column<Candidate>[] {
  return [
    {
      head: "Instance",
      className: "nowrap strong",
      cell: (row) => (
        <>
          {row.role === "chosen" && <Mark shape="moving" size={12} />} {row.instance_id}
        </>
      ),
    },
    {
      head: "Freeness, steps",
      className: "nowrap",
      cell: (row) => (
        <>
          <span className="mini-bar" aria-hidden>
            <span style={{ width: percentWidth(row.freeness_tokens, most) }} />
          </span>{" "}
          {freenessWords(row)}
        </>
      ),
    },
    { head: "Used, tokens", num: true, cell: (row) => count(row.used_tokens) },
    { head: "Running", num: true, cell: (row) => count(row.running) },
    { head: "Waiting", num: true, cell: (row) => count(row.waiting) },
    { head: "Result", bare: true, className: "t2 detail", cell: result },
  ];
}

function percentWidth(value: number | null, most: number): string {
  return percent(Math.max(0, Math.min(1, (value ?? 0) / most)), 0).replace("\u202f", "");
}

function result(row: Candidate, index: number): string {
  if (row.role === "chosen") return "chosen";
  if (row.role === "dropped") return `dropped: ${row.reason.replaceAll("_", " ") || "by a filter"}`;
  return index === 1 ? "next best" : "";
}

/** What the source agent made of it. */
function Answer({ round, place }: { round: Round; place: number }) {
  const moves = round.decisions.slice(0, place + 1).filter((each) => each.type === "Migrate").length;
  const answer = round.decisions[place]?.type === "Migrate" ? round.answers[moves - 1] : undefined;
  if (!answer) return null;
  return (
    <div className="why-step">
      <span className="step-number">→</span>
      <div>
        <div className="caption">What the source did</div>
        {answer.accepted ? (
          <ul>
            {(answer.planned ?? []).map((move) => (
              <li key={move.migration_id}>
                <Link to={`/migrations/${move.migration_id}`}>{shortId(move.request_id)}</Link>{" "}
                <span className="t2">
                  {move.tenant} · {move.slo_class} · {count(move.tokens)} tokens · {separated(move.why)}
                </span>
              </li>
            ))}
            {(answer.planned ?? []).length === 0 && <li className="t2">It had nothing to move.</li>}
          </ul>
        ) : (
          <p className="t2">It did not take the command: {answer.reason || "no reason given"}.</p>
        )}
      </div>
    </div>
  );
}
