import { useMediaQuery } from "@mantine/hooks";
import { Link } from "react-router";
import { ActionButton } from "../components/ActionButton";
import { ClassStrip } from "../components/ClassStrip";
import { useDialog } from "../components/dialogs/DialogProvider";
import { EventFeed } from "../components/EventFeed";
import { FirstStart } from "../components/FirstStart";
import { FleetLegend, FleetList, FleetTable } from "../components/FleetTable";
import { FreeRuler } from "../components/FreeRuler";
import { OnHold } from "../components/OnHold";
import { Problems } from "../components/Problems";
import { SituationCard } from "../components/SituationCard";
import { OverviewSkeleton } from "../components/Skeletons";
import { byRank, classNow, hurtClasses, type Level, liveMoves, totals, withQueue } from "../lib/fleet";
import { age, clock, count, lasting, plural } from "../lib/format";
import { type Hold, holdOf } from "../lib/holds";
import { type Problem, problems } from "../lib/problems";
import { situation } from "../lib/situation";
import { useShown, useTopic } from "../live/context";
import { useInstances } from "../live/pool";
import type { LiveState } from "../live/reducer";
import { useTrend } from "../live/trend";

export function Overview() {
  const { state } = useShown();
  if (state === null) return <OverviewSkeleton />;
  const ever = [...state.instances.values()].some((item) => item.heard_at !== null && item.state === "ready");
  return ever ? <LiveOverview state={state} /> : <FirstStart state={state} />;
}

/** Larger fleets show classes: a bar of requests would be a comb, and their detail a flood. */
export const SHOWN_BY_REQUEST = 32;

function LiveOverview({ state }: { state: LiveState }) {
  const { screenNow: now } = useShown();
  const instances = useInstances();
  const narrow = useMediaQuery("(max-width: 720px)", false, { getInitialValueInEffect: false });
  const found = situation(state, instances, now);
  const sums = withQueue(totals(instances, now), state);
  const moves = liveMoves(state, now);
  const classes = byRank(state);
  const hold = holdOf(state, now);
  const open = problems(state, instances, now);
  const hurt = hurtClasses(state)[0];
  useTopic("requests", instances.length <= SHOWN_BY_REQUEST);
  return (
    <>
      <SituationCard
        found={found}
        aside={
          hold?.since && !(hold.part === "loop" && hurt) ? (
            `since ${clock(hold.since)} UTC`
          ) : hurt ? (
            <HurtFor key={hurt.name} name={hurt.name} objective={hurt.objective} now={now} />
          ) : null
        }
        actions={<Actions suspect={found.suspect} level={found.level} hold={hold} open={open} />}
      />
      {hold && <OnHold hold={hold} />}
      <div className="grid strips">
        {classes.map((row) => (
          <Strip
            key={row.name}
            row={row}
            load={classNow(instances, row.name, now)}
            source={hold?.part === "redis" ? gatewayWords(state, now) : ""}
          />
        ))}
      </div>
      <div className="grid columns">
        <div className="side">
          <section className="card" aria-label="fleet">
            <div className="card-head">
              <h2>Fleet</h2>
              <span className="t3">
                {count(sums.serving)} of {count(instances.length)} serving
              </span>
              <span className="aside">freeness = decode steps left; mean {count(sums.meanFreeness)}</span>
            </div>
            {narrow ? (
              <FleetList
                instances={instances}
                now={now}
                residents={state.residents}
                tenants={state.tenants}
              />
            ) : (
              <div className="scroll-x">
                <div className="fleet-wide">
                  <FleetTable
                    brief
                    instances={instances}
                    moves={moves}
                    now={now}
                    residents={state.residents}
                    tenants={state.tenants}
                  />
                </div>
              </div>
            )}
            <FleetLegend
              classes={classes.map((row) => row.name)}
              tenants={state.residents.size ? state.tenants : []}
            />
          </section>
          <Problems found={open} />
        </div>
        <div className="side">
          <FreeRuler instances={instances} sums={sums} now={now} />
          <EventFeed events={state.events} />
        </div>
      </div>
    </>
  );
}

/** How long a class has been below its objective, as far as the last 15 minutes tell. */
function HurtFor({ name, objective, now }: { name: string; objective: number; now: number }) {
  const ttft = useTrend("class", name, "ttft_attained");
  const shares = lower(ttft, useTrend("class", name, "tpot_attained"));
  const times = useTrend("class", name, "at");
  const begun = belowSince(shares, times, objective);
  if (begun === null) return null;
  return begun === times[0] ? `for ${lasting(now - begun)} or longer` : `for ${lasting(now - begun)}`;
}

/** Where a class's numbers come from while reports are away. */
function gatewayWords(state: LiveState, now: number): string {
  const heard = [...state.gateways.values()].map((item) => item.heard_at);
  if (heard.length === 0) return "no gateway has reported";
  return `from ${plural(heard.length, "gateway")}, ${age(now - Math.min(...heard))} ago`;
}

function Strip(props: Pick<Parameters<typeof ClassStrip>[0], "row" | "load" | "source">) {
  const trend = lower(
    useTrend("class", props.row.name, "ttft_attained"),
    useTrend("class", props.row.name, "tpot_attained"),
  );
  return <ClassStrip {...props} trend={trend} />;
}

interface ActionsProps {
  suspect: string | null;
  level: Level;
  hold: Hold | null;
  open: readonly Problem[];
}

function Actions({ suspect, level, hold, open: found }: ActionsProps) {
  const open = useDialog();
  const fitsNowhere = found.some((problem) => problem.key === "fits-nowhere");
  return (
    <>
      <div className="row">
        {hold && (
          <Link className="btn small" to="/settings/system">
            Show the system
          </Link>
        )}
        {fitsNowhere && !hold && (
          <Link className="btn small" to="/scheduling/autoscaling">
            Add an instance
          </Link>
        )}
        {hold?.part !== "loop" && (
          <ActionButton
            className="small"
            onClick={() => open({ kind: "migrate", sourceId: suspect ?? undefined })}
          >
            Migrate a request…
          </ActionButton>
        )}
        {suspect && !hold && (
          <ActionButton className="small" onClick={() => open({ kind: "drain", instanceId: suspect })}>
            Drain {suspect}…
          </ActionButton>
        )}
      </div>
      <div className="detail t2">{advice(suspect, level, hold, fitsNowhere)}</div>
    </>
  );
}

const LOOK: Record<Hold["part"], string> = {
  redis:
    "Is Redis up, and is it reached from here? manage.py doctor on the console's machine says what fails.",
  database: "Is the database up, locked, or its disk full? manage.py doctor says what fails.",
  loop: 'Is a worker of the queue "loop" up? manage.py doctor on the console\'s machine says what fails.',
};

function advice(suspect: string | null, level: Level, hold: Hold | null, fitsNowhere: boolean): string {
  if (hold) return LOOK[hold.part];
  if (level === "good") return "Nothing is needed.";
  if (fitsNowhere) return "Draining does not help a request that fits nowhere.";
  return suspect ? "Or nothing: the loop is at it." : "The problems below name what to look at.";
}

/** The first moment of the last unbroken run below the objective; null when it is not below it now. */
function belowSince(
  shares: readonly (number | null)[],
  times: readonly (number | null)[],
  objective: number,
): number | null {
  let begun: number | null = null;
  for (let index = shares.length - 1; index >= 0; index -= 1) {
    const share = shares[index] ?? null;
    if (share !== null && share >= objective) break;
    if (share !== null) begun = times[index] ?? begun;
  }
  return begun;
}

/** The lower of the two shares at each moment, as the number beside the line. */
function lower(a: readonly (number | null)[], b: readonly (number | null)[]): (number | null)[] {
  return a.map((value, index) => {
    const other = b[index] ?? null;
    return value === null || other === null ? (value ?? other) : Math.min(value, other);
  });
}
