import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { getMigrations } from "../api/migrations";
import { ActionButton } from "../components/ActionButton";
import { useDialog } from "../components/dialogs/DialogProvider";
import { ProblemNote } from "../components/dialogs/Problem";
import { Histogram } from "../components/Histogram";
import { HistoryTable } from "../components/HistoryTable";
import { MoveLane } from "../components/MoveLane";
import { OutcomeList } from "../components/OutcomeList";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { endedMoves, percentile, runningMoves } from "../lib/fleet";
import { bytes, count, durationParts, plural } from "../lib/format";
import { bytesOf } from "../lib/words";
import { useShown } from "../live/context";
import type { LiveState } from "../live/reducer";
import type { Migration } from "../live/types";

const LINGER_S = 10;
const FILTERS = { all: "All", done: "Finished", stopped: "Stopped" } as const;
type Filter = keyof typeof FILTERS;

export default function Migrations() {
  const { state, screenNow: now } = useShown();
  if (state === null) return <OverviewSkeleton />;
  return <Known state={state} now={now} />;
}

function Known({ state, now }: { state: LiveState; now: number }) {
  const open = useDialog();
  const [query, setQuery] = useSearchParams();
  const filter = (query.get("outcome") ?? "all") as Filter;
  const text = query.get("q") ?? "";
  const [wantOlder, setWantOlder] = useState(false);
  const older = useOlder(wantOlder);
  const running = runningMoves(state);
  const justEnded = endedMoves(state).filter((move) => now - (move.ended_at ?? 0) < LINGER_S);
  const history = merged(endedMoves(state), older.data?.pages.flatMap((page) => page.results) ?? []);
  const done = history.filter((move) => move.state === "done");
  const downtimes = done.flatMap((move) => (move.downtime_ms === null ? [] : [move.downtime_ms]));
  const shown = history.filter((move) => matches(move, filter, text));
  const copied = history.reduce((sum, move) => sum + bytesOf(move), 0);
  const set = (name: string, value: string) => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value);
    else next.delete(name);
    setQuery(next, { replace: true });
  };
  return (
    <>
      <div className="page-head">
        <h1>Migrations</h1>
        <div className="stats">
          <Stat value={count(running.length)} unit="running" caption={pathsOf(running)} />
          <TimeStat ms={percentile(downtimes, 0.5)} caption="median downtime" />
          <TimeStat ms={percentile(downtimes, 0.99)} caption="p99 downtime" />
          <Stat
            value={count(done.length)}
            unit={done.length === 1 ? "move" : "moves"}
            caption={`finished, ${count(history.length - done.length)} stopped`}
          />
          <Stat
            value={bytes(copied).split("\u202f")[0] ?? "–"}
            unit={bytes(copied).split("\u202f")[1] ?? ""}
            caption="copied"
          />
        </div>
        <div className="actions">
          <ActionButton onClick={() => open({ kind: "migrate" })}>Migrate a request…</ActionButton>
        </div>
      </div>
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
            Nothing moves now. The loop moves requests away from instances that run out of memory; you can
            move one by hand.
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
      <div className="grid columns narrow-side">
        <section className="card" aria-label="history">
          <div className="card-head">
            <h2>History</h2>
            <fieldset className="segmented" aria-label="Outcome">
              {(Object.keys(FILTERS) as Filter[]).map((key) => (
                <button
                  key={key}
                  type="button"
                  aria-pressed={filter === key}
                  onClick={() => set("outcome", key === "all" ? "" : key)}
                >
                  {FILTERS[key]}
                </button>
              ))}
            </fieldset>
            <input
              className="field"
              data-filter
              placeholder="Instance, tenant, request"
              aria-label="Filter the history"
              value={text}
              onChange={(event) => set("q", event.currentTarget.value)}
            />
            <span className="aside">
              {count(shown.length)} of {count(history.length)} loaded
            </span>
          </div>
          <HistoryTable moves={shown} state={state} now={now} />
          <ProblemNote error={older.error} />
          <div className="card-body">
            <button
              type="button"
              className="btn small"
              disabled={older.isFetching || (wantOlder && !older.hasNextPage && !older.isPending)}
              onClick={() => (wantOlder ? void older.fetchNextPage() : setWantOlder(true))}
            >
              {older.isFetching
                ? "Loading…"
                : wantOlder && !older.hasNextPage && !older.isPending
                  ? "That is all"
                  : "Load older moves"}
            </button>
          </div>
        </section>
        <div className="side">
          <Histogram values={downtimes} />
          <OutcomeList moves={history} />
        </div>
      </div>
    </>
  );
}

function useOlder(enabled: boolean) {
  return useInfiniteQuery({
    queryKey: ["migrations", "older"],
    enabled,
    initialPageParam: "migrations?final=true&limit=100",
    queryFn: ({ pageParam }) => getMigrations(pageParam),
    getNextPageParam: (page) => page.next ?? undefined,
  });
}

/** Live moves first, then older ones from the history; one row per move. */
function merged(live: Migration[], older: Migration[]): Migration[] {
  const known = new Set(live.map((move) => move.id));
  return [...live, ...older.filter((move) => !known.has(move.id))];
}

function matches(move: Migration, filter: Filter, text: string): boolean {
  if (filter === "done" && move.state !== "done") return false;
  if (filter === "stopped" && move.state === "done") return false;
  return `${move.id} ${move.request_id} ${move.source} ${move.destination} ${move.tenant} ${move.slo_class} ${move.rule}`.includes(
    text,
  );
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
