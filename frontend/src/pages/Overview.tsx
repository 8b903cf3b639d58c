import { useMediaQuery } from "@mantine/hooks";
import { ActionButton } from "../components/ActionButton";
import { ClassStrip } from "../components/ClassStrip";
import { useDialog } from "../components/dialogs/DialogProvider";
import { EventFeed } from "../components/EventFeed";
import { FirstStart } from "../components/FirstStart";
import { FleetLegend, FleetList, FleetTable } from "../components/FleetTable";
import { FreeRuler } from "../components/FreeRuler";
import { OnHold } from "../components/OnHold";
import { SituationCard } from "../components/SituationCard";
import { OverviewSkeleton } from "../components/Skeletons";
import { byRank, classNow, runningMoves, totals } from "../lib/fleet";
import { clock, count, fixed } from "../lib/format";
import { situation } from "../lib/situation";
import { useShown } from "../live/context";
import { useInstances } from "../live/pool";
import type { LiveState } from "../live/reducer";
import { useTrend } from "../live/trend";

export function Overview() {
  const { state } = useShown();
  if (state === null) return <OverviewSkeleton />;
  const ever = [...state.instances.values()].some((item) => item.heard_at !== null && item.state === "ready");
  return ever ? <LiveOverview state={state} /> : <FirstStart state={state} />;
}

function LiveOverview({ state }: { state: LiveState }) {
  const { screenNow: now } = useShown();
  const instances = useInstances();
  const narrow = useMediaQuery("(max-width: 720px)", false, { getInitialValueInEffect: false });
  const found = situation(state, instances, now);
  const sums = totals(instances, now);
  const moves = runningMoves(state);
  const classes = byRank(state);
  const redis = state.degraded.redis;
  return (
    <>
      <SituationCard
        found={found}
        aside={redis ? `since ${clock(redis.since)} UTC` : null}
        actions={<Actions suspect={found.suspect} />}
      />
      {redis && <OnHold redis={redis} now={now} />}
      <div className="grid strips">
        {classes.map((row) => (
          <Strip key={row.name} row={row} load={classNow(instances, row.name, now)} />
        ))}
      </div>
      <div className="grid columns">
        <section className="card" aria-label="fleet">
          <div className="card-head">
            <h2>Fleet</h2>
            <span className="t3">
              {count(sums.serving)} of {count(instances.length)} serving
            </span>
            <span className="aside">freeness = decode steps left; mean {fixed(sums.meanFreeness, 0)}</span>
          </div>
          {narrow ? (
            <FleetList instances={instances} now={now} />
          ) : (
            <div className="scroll-x">
              <div style={{ minWidth: 820 }}>
                <FleetTable instances={instances} moves={moves} now={now} />
              </div>
            </div>
          )}
          <FleetLegend classes={classes.map((row) => row.name)} />
        </section>
        <div className="side">
          <FreeRuler instances={instances} sums={sums} />
          <EventFeed events={state.events} />
        </div>
      </div>
    </>
  );
}

function Strip({
  row,
  load,
}: {
  row: Parameters<typeof ClassStrip>[0]["row"];
  load: { running: number; waiting: number };
}) {
  const trend = useTrend("class", row.name, "ttft_attained");
  return <ClassStrip row={row} load={load} trend={trend} />;
}

function Actions({ suspect }: { suspect: string | null }) {
  const open = useDialog();
  return (
    <>
      <div className="row">
        <ActionButton
          className="small"
          onClick={() => open({ kind: "migrate", sourceId: suspect ?? undefined })}
        >
          Migrate a request…
        </ActionButton>
        {suspect && (
          <ActionButton className="small" onClick={() => open({ kind: "drain", instanceId: suspect })}>
            Drain {suspect}…
          </ActionButton>
        )}
      </div>
      <div className="detail t2">{suspect ? "Or nothing: the loop is at it." : "Nothing is needed."}</div>
    </>
  );
}
