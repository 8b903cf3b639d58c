import { FilterField, Picker } from "../components/Choices";
import { FleetLegend, FleetList, FleetTable } from "../components/FleetTable";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { byRank, liveMoves, stateWord, totals } from "../lib/fleet";
import { count, percentNumber } from "../lib/format";
import { useNarrow } from "../lib/narrow";
import { useUrlState } from "../lib/urlState";
import { useShown, useTopic } from "../live/context";
import { useInstances } from "../live/pool";

const SHOWN_BY_REQUEST = 32;
const SORTS = [
  ["name", "name"],
  ["full", "fullest first"],
  ["free", "freeness, lowest first"],
  ["waiting", "waiting, most first"],
] as const;
type Sort = (typeof SORTS)[number][0];

export default function Instances() {
  const { state, screenNow: now } = useShown();
  const instances = useInstances();
  const narrow = useNarrow();
  const [text, setText] = useUrlState<string>("q", "");
  const [sort, setSort] = useUrlState<Sort>("sort", "name");
  useTopic("requests", instances.length <= SHOWN_BY_REQUEST);
  if (state === null) return <OverviewSkeleton />;
  const shown = sorted(
    instances.filter((item) => `${item.id} ${item.host ?? ""} ${stateWord(item, now)}`.includes(text)),
    sort,
  );
  const sums = totals(instances, now);
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
        <FilterField value={text} placeholder="Filter name, host, state" onChange={setText} />
        <Picker label="Order by" value={sort} options={SORTS} onChange={setSort} />
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
