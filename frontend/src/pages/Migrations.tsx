import { useMoveSums, useMoves } from "../api/migrations";
import { ActionButton } from "../components/ActionButton";
import { FilterField, Picker, Segmented } from "../components/Choices";
import { useDialog } from "../components/dialogs/DialogProvider";
import { ProblemNote } from "../components/dialogs/Problem";
import { Histogram } from "../components/Histogram";
import { HistoryTable } from "../components/HistoryTable";
import { MoveLane } from "../components/MoveLane";
import { SumsCard } from "../components/migrations/SumsCard";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { endedMoves, runningMoves } from "../lib/fleet";
import { bytes, count, durationParts, plural } from "../lib/format";
import { rangeWords } from "../lib/range";
import { useUrlState } from "../lib/urlState";
import { moveRuleWords } from "../lib/words";
import { useShown } from "../live/context";
import { usePool } from "../live/pool";
import type { LiveState } from "../live/reducer";
import { useScope } from "../live/scope";
import type { Migration } from "../live/types";

const LINGER_S = 10;
const DONE = { all: "", done: "true", stopped: "false" } as const;
type Outcome = keyof typeof DONE;

export default function Migrations() {
  const { state, screenNow: now } = useShown();
  if (state === null) return <OverviewSkeleton />;
  return <Known state={state} now={now} />;
}

function Known({ state, now }: { state: LiveState; now: number }) {
  const { range } = useScope();
  const pool = usePool().pool ?? "";
  const sums = useMoveSums({ pool }, range);
  const running = runningMoves(state).filter(
    (move) => !pool || state.instances.get(move.source)?.pool === pool,
  );
  return (
    <>
      <Head running={running} sums={sums.data} />
      <ProblemNote error={sums.error} />
      <Running running={running} state={state} now={now} />
      <History state={state} now={now} pool={pool} sums={sums.data} />
    </>
  );
}

type Sums = ReturnType<typeof useMoveSums>["data"];

function Head({ running, sums }: { running: Migration[]; sums: Sums }) {
  const open = useDialog();
  const { range } = useScope();
  const copied = bytes(sums?.bytes).split("\u202f");
  return (
    <div className="page-head">
      <h1>Migrations</h1>
      <div className="stats">
        <Stat value={count(running.length)} unit="running" caption={pathsOf(running)} />
        <TimeStat ms={sums?.downtime_ms.p50 ?? null} caption="median downtime" />
        <TimeStat ms={sums?.downtime_ms.p99 ?? null} caption="p99 downtime" />
        <Stat
          value={count(sums?.done)}
          unit={sums?.done === 1 ? "move" : "moves"}
          caption={`finished ${rangeWords(range)}, ${count(sums?.stopped)} stopped`}
        />
        <Stat value={copied[0] ?? "–"} unit={copied[1] ?? ""} caption="copied" />
      </div>
      <div className="actions">
        <ActionButton onClick={() => open({ kind: "migrate" })}>Migrate a request…</ActionButton>
      </div>
    </div>
  );
}

function Running({ running, state, now }: { running: Migration[]; state: LiveState; now: number }) {
  const justEnded = endedMoves(state).filter((move) => now - (move.ended_at ?? 0) < LINGER_S);
  return (
    <section className="card" aria-label="running moves">
      <div className="card-head">
        <h2>Running</h2>
        <span className="t3">
          {count(running.length)}
          {justEnded.length
            ? `, and ${plural(justEnded.length, "that", "that")} ended in the last ${LINGER_S} s`
            : ""}
        </span>
        <span className="aside">drawn as the sources report</span>
      </div>
      {running.length + justEnded.length === 0 && (
        <p className="empty t2">
          Nothing moves now. The loop moves requests away from instances that run out of memory; you can move
          one by hand.
        </p>
      )}
      {[...running, ...justEnded].map((move) => (
        <MoveLane
          key={move.id}
          move={move}
          tenants={state.tenants}
          now={now}
          limitMs={state.classes.get(move.slo_class)?.tpot_target_ms ?? null}
        />
      ))}
    </section>
  );
}

interface HistoryProps {
  state: LiveState;
  now: number;
  pool: string;
  sums: Sums;
}

function History({ state, now, pool, sums }: HistoryProps) {
  const { range } = useScope();
  const [outcome, setOutcome] = useUrlState<Outcome>("outcome", "all");
  const [q, setText] = useUrlState<string>("q", "");
  const [rule, setRule] = useUrlState<string>("rule", "");
  const [pair, setPair] = useUrlState<string>("pair", "");
  const [source = "", destination = ""] = pair.split(">");
  const moves = useMoves({ pool, done: DONE[outcome] ?? "", source, destination, rule, q }, range);
  const rows = moves.data?.pages.flatMap((page) => page.results) ?? [];
  return (
    <div className="grid columns narrow-side">
      <section className="card" aria-label="history">
        <div className="card-head wraps">
          <h2>History</h2>
          <Segmented
            label="Outcome"
            value={outcome}
            options={[
              ["all", "All"],
              ["done", "Finished"],
              ["stopped", "Stopped"],
            ]}
            onChange={setOutcome}
          />
          <Picker label="Rule" value={rule} options={ruleOptions(sums)} onChange={setRule} />
          {pair && (
            <button type="button" className="btn small" onClick={() => setPair("")}>
              {source} → {destination} ✕<span className="visually-hidden"> show all pairs</span>
            </button>
          )}
          <FilterField value={q} placeholder="Instance, tenant, request" onChange={setText} />
          <span className="aside">
            {count(rows.length)} loaded, {rangeWords(range)}
          </span>
        </div>
        <ProblemNote error={moves.error} />
        {moves.isPending ? (
          <div className="skeleton" style={{ height: 240, margin: 14 }} />
        ) : (
          <HistoryTable moves={rows} state={state} now={now} />
        )}
        {moves.hasNextPage && (
          <div className="card-body">
            <button
              type="button"
              className="btn small"
              disabled={moves.isFetching}
              onClick={() => void moves.fetchNextPage()}
            >
              {moves.isFetchingNextPage ? "Loading…" : "Load older moves"}
            </button>
          </div>
        )}
      </section>
      <div className="side">
        <Histogram values={sums?.downtime_ms.values_ms ?? []} />
        <SumsCard
          sums={sums}
          chosen={{ source, destination }}
          onChoose={(from, to) => setPair(from ? `${from}>${to}` : "")}
        />
      </div>
    </div>
  );
}

function ruleOptions(sums: Sums): (readonly [string, string])[] {
  return [["", "any"], ...(sums?.rules ?? []).map((row) => [row.rule, moveRuleWords(row.rule)] as const)];
}

function pathsOf(running: Migration[]): string {
  if (running.length === 0) return "at this moment";
  const sources = new Set(running.map((move) => move.source)).size;
  const targets = new Set(running.map((move) => move.destination)).size;
  return `from ${count(sources)} to ${plural(targets, "instance")}`;
}

function TimeStat({ ms, caption }: { ms: number | null; caption: string }) {
  const parts = ms === null ? null : durationParts(ms);
  return <Stat value={parts?.value ?? "–"} unit={parts?.unit ?? ""} caption={caption} />;
}
