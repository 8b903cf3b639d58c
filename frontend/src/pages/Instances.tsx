import { useSearchParams } from "react-router";
import { FleetLegend, FleetList, FleetTable } from "../components/FleetTable";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { byRank, liveMoves, stateWord, totals } from "../lib/fleet";
import { count, percentNumber } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { useShown, useTopic } from "../live/context";
import { useInstances } from "../live/pool";

const SHOWN_BY_REQUEST = 32;
const SORTS = {
  name: "name",
  full: "fullest first",
  free: "freeness, lowest first",
  waiting: "waiting, most first",
} as const;
type Sort = keyof typeof SORTS;

export default function Instances() {
  const { state, screenNow: now } = useShown();
  const instances = useInstances();
  const narrow = useNarrow();
  const [query, setQuery] = useSearchParams();
  useTopic("requests", instances.length <= SHOWN_BY_REQUEST);
  if (state === null) return <OverviewSkeleton />;
  const text = query.get("q") ?? "";
  const sort = (query.get("sort") ?? "name") as Sort;
  const shown = sorted(
    instances.filter((item) => `${item.id} ${item.host ?? ""} ${stateWord(item, now)}`.includes(text)),
    sort,
  );
  const sums = totals(instances, now);
  const set = (name: string, value: string) => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value);
    else next.delete(name);
    setQuery(next, { replace: true });
  };
  return (
    <>
      <div className="page-head">
        <h1>Instances</h1>
        <div className="stats">
          <Stat value={`${count(sums.serving)} of ${count(sums.instances)}`} caption="serving" />
          <Stat
            value={sums.totalTokens ? percentNumber(sums.freeTokens / sums.totalTokens) : "–"}
            unit="%"
            caption={`free in total, ${count(sums.freeTokens)} tokens`}
          />
          <Stat
            value={sums.largest ? count(sums.largest.tokens) : "–"}
            unit="tokens"
            caption={`largest placeable request${sums.largest ? `, ${sums.largest.instance}` : ""}`}
          />
          <Stat value={count(sums.waiting)} unit="requests" caption="waiting for memory" />
          <Stat value={count(sums.meanFreeness)} unit="steps" caption="mean freeness" />
        </div>
      </div>
      <div className="row filters">
        <input
          className="field"
          data-filter
          placeholder="Filter name, host, state"
          aria-label="Filter instances"
          value={text}
          onChange={(event) => set("q", event.currentTarget.value)}
        />
        <label className="t3">
          Order by{" "}
          <select
            className="field"
            value={sort}
            onChange={(event) =>
              set("sort", event.currentTarget.value === "name" ? "" : event.currentTarget.value)
            }
          >
            {Object.entries(SORTS).map(([key, words]) => (
              <option key={key} value={key}>
                {words}
              </option>
            ))}
          </select>
        </label>
      </div>
      <section className="card" aria-label="instances">
        {shown.length === 0 ? (
          <p className="empty">
            {instances.length ? "No instance matches the filter." : "No instance has joined yet."}
          </p>
        ) : narrow ? (
          <FleetList instances={shown} now={now} residents={state.residents} tenants={state.tenants} />
        ) : (
          <div className="scroll-x">
            <div className="fleet-wide">
              <FleetTable
                instances={shown}
                moves={liveMoves(state, now)}
                now={now}
                residents={state.residents}
                tenants={state.tenants}
              />
            </div>
          </div>
        )}
        <FleetLegend
          classes={byRank(state).map((row) => row.name)}
          tenants={state.residents.size ? state.tenants : []}
        />
      </section>
    </>
  );
}

function sorted(instances: ReturnType<typeof useInstances>, sort: Sort) {
  const by: Record<Sort, (item: (typeof instances)[number]) => number> = {
    name: () => 0,
    full: (item) => -((item.used_blocks ?? 0) + (item.reserved_blocks ?? 0)) / (item.total_blocks || 1),
    free: (item) => item.freeness ?? Number.POSITIVE_INFINITY,
    waiting: (item) => -(item.waiting ?? 0),
  };
  return [...instances].sort((a, b) => (by[sort] ?? by.name)(a) - (by[sort] ?? by.name)(b));
}
