import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";
import { getMigrations } from "../api/migrations";
import { useRequest } from "../api/requests";
import type { RequestDetail, TimelineEvent } from "../api/shapes";
import { Segmented } from "../components/Choices";
import { ClassMark } from "../components/ClassMark";
import { type Column, DataTable } from "../components/DataTable";
import { ProblemNote } from "../components/dialogs/Problem";
import { Mark } from "../components/Mark";
import { Outcome } from "../components/request/FinishedTable";
import { LifeBar } from "../components/request/LifeBar";
import { MoveLens } from "../components/request/MoveLens";
import { RequestActions } from "../components/request/RequestActions";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { count, duration, durationParts, fullTime, plural, separated } from "../lib/format";
import { clientView, lifeOf, seconds } from "../lib/requestLife";
import { tenantColor } from "../lib/tenants";
import { useUrlState } from "../lib/urlState";
import { ruleWords, shortId } from "../lib/words";
import { useShown } from "../live/context";
import type { LiveState } from "../live/reducer";
import type { Migration } from "../live/types";

export default function RequestPage() {
  const { id = "" } = useParams();
  const { state } = useShown();
  const request = useRequest(id);
  const moves = useQuery({
    queryKey: ["request", id, "moves"],
    queryFn: () => getMigrations(`migrations?request_id=${encodeURIComponent(id)}`),
    refetchInterval: request.data?.finished_at ? false : 2_000,
  });
  if (state === null || request.isPending) return <OverviewSkeleton />;
  if (request.error) {
    return (
      <div className="card card-body">
        <ProblemNote error={request.error} />
        <p className="t2">
          Requests are kept for some days and only by their id. <Link to="/requests">The list</Link> has those
          that live and those that ended lately.
        </p>
      </div>
    );
  }
  const rows = [...(moves.data?.results ?? [])].sort((a, b) => a.started_at - b.started_at);
  return <Known request={request.data} moves={rows} state={state} />;
}

type Tab = "timeline" | "decisions" | "raw";

function Known({ request, moves, state }: { request: RequestDetail; moves: Migration[]; state: LiveState }) {
  const { screenNow: now } = useShown();
  const [tab, setTab] = useUrlState<Tab>("tab", "timeline");
  return (
    <>
      <Head request={request} state={state} />
      <div className="row">
        <Segmented
          label="View"
          value={tab}
          options={[
            ["timeline", "Timeline"],
            ["decisions", `Decisions ${moves.length || ""}`],
            ["raw", "Raw"],
          ]}
          onChange={setTab}
        />
      </div>
      {tab === "timeline" && <Timeline request={request} moves={moves} state={state} now={now} />}
      {tab === "decisions" && <Decisions moves={moves} />}
      {tab === "raw" && (
        <section className="card card-body" aria-label="raw record">
          <pre className="raw">{JSON.stringify(request, null, 2)}</pre>
        </section>
      )}
    </>
  );
}

function Head({ request, state }: { request: RequestDetail; state: LiveState }) {
  const row = state.classes.get(request.slo_class_served);
  const places = placesOf(request);
  const end = request.finished_at ? seconds(request.finished_at) : null;
  return (
    <div className="page-head request-head">
      <div>
        <div className="row">
          <Link to="/requests" className="t3">
            Requests
          </Link>{" "}
          <span className="t3">/</span>
          <h1 className="mono" title={request.request_id}>
            {shortId(request.request_id)}
          </h1>
          <span className={`tag ${request.finished_at ? "" : "accent"}`}>
            {request.finished_at ? <Outcome text={request.outcome ?? ""} /> : request.state}
          </span>
        </div>
        <div className="detail t2">
          <ClassMark name={request.slo_class_served} color={tenantColor(state.tenants, request.tenant)} />{" "}
          <Link to={`/tenants/${request.tenant}`}>{request.tenant || "–"}</Link> · {request.slo_class_served}
          {request.slo_class_asked && request.slo_class_asked !== request.slo_class_served
            ? `, asked for ${request.slo_class_asked}`
            : ""}
        </div>
      </div>
      <div className="stats">
        <TimeStat
          ms={end === null ? null : (end - seconds(request.arrived_at)) * 1000}
          caption="end to end"
        />
        <TimeStat
          ms={request.ttft_ms}
          caption={row?.ttft_target_ms ? `TTFT, target ${duration(row.ttft_target_ms)}` : "TTFT"}
          over={over(request.ttft_ms, row?.ttft_target_ms)}
        />
        <TimeStat
          ms={request.tpot_ms}
          caption={row?.tpot_target_ms ? `TPOT mean, target ${duration(row.tpot_target_ms)}` : "TPOT mean"}
          over={over(request.tpot_ms, row?.tpot_target_ms)}
        />
        <Stat
          value={count(request.output_tokens)}
          unit="tokens"
          caption={`out; ${count(request.prompt_tokens)} in`}
        />
        <Stat
          value={count(places.length || (request.instance ? 1 : 0))}
          unit={places.length === 1 ? "instance" : "instances"}
          caption={places.join(", ") || request.instance || "none yet"}
        />
      </div>
      <div className="actions">
        <RequestActions request={request} />
      </div>
    </div>
  );
}

/** Instances in the order in which they served it. */
function placesOf(request: RequestDetail): string[] {
  const seen = request.segments.flatMap((segment) => (segment.instance ? [segment.instance] : []));
  return [...new Set(seen)];
}

function over(value: number | null, target: number | null | undefined): boolean {
  return value !== null && target != null && value > target;
}

function TimeStat({ ms, caption, over = false }: { ms: number | null; caption: string; over?: boolean }) {
  const parts = ms === null ? null : durationParts(ms);
  return (
    <Stat
      value={parts?.value ?? "–"}
      unit={parts?.unit ?? ""}
      caption={caption}
      tone={over ? "critical" : undefined}
    />
  );
}

interface TimelineProps {
  request: RequestDetail;
  moves: Migration[];
  state: LiveState;
  now: number;
}

function Timeline({ request, moves, state, now }: TimelineProps) {
  const life = lifeOf(request, now);
  const seen = clientView(request, moves, life);
  const longest = Math.max(1, ...seen.pauses.map((pause) => pause.ms));
  return (
    <>
      <section className="card" aria-label="life of the request">
        <div className="card-head">
          <h2>Life of the request</h2>
          <span className="aside row">
            <Key className="pattern-plain" style="queued" text="queued" />
            <Key className="pattern-plain" style="prefill" text="prefill" />
            <span className="accent">▬ copy</span> <span>┃ downtime</span>{" "}
            <span className="warning">▭ recovery</span>
          </span>
        </div>
        <div className="card-body">
          {life.spans.length ? (
            <LifeBar life={life} moves={moves} color={tenantColor(state.tenants, request.tenant)} />
          ) : (
            <p className="t2">Its life is not known in parts; the events below are all there is.</p>
          )}
        </div>
      </section>
      {moves.length > 0 && (
        <div className="grid lenses">
          {moves.slice(0, 4).map((move) => (
            <MoveLens key={move.id} move={move} start={life.start} />
          ))}
        </div>
      )}
      <div className="grid columns">
        <Events events={request.timeline} />
        <section className="card" aria-label="what the client saw">
          <div className="card-head">
            <h2>What the client saw</h2>
            <span className="aside">stream of {request.tenant || "–"}</span>
          </div>
          <div className="card-body form">
            <p>{separated(seen.sentence)}</p>
            {seen.pauses.map((pause) => (
              <div key={pause.name} className="pause-row detail">
                <span className="t2">{pause.name}</span>
                <span className="thin-track">
                  <span className="thin-fill" style={{ width: `${(pause.ms / longest) * 100}%` }} />
                </span>
                <span className="num strong">{duration(pause.ms)}</span>
              </div>
            ))}
            <p className="detail t3">Prompt and output are not stored.</p>
          </div>
        </section>
      </div>
    </>
  );
}

function Key({ style, text }: { className: string; style: string; text: string }) {
  return (
    <span>
      <span className={`swatch key-${style}`} /> {text}
    </span>
  );
}

const EVENT_COLUMNS: Column<TimelineEvent>[] = [
  {
    head: "Time, UTC",
    className: "nowrap t2",
    title: (event) => fullTime(seconds(event.at)),
    cell: (event) => event.at.slice(11, 23),
  },
  {
    head: "Event",
    className: "strong nowrap",
    cell: (event) => (
      <>
        <EventMark kind={event.kind} /> {event.kind.replaceAll("_", " ")}
      </>
    ),
  },
  {
    head: "Detail",
    className: "t2",
    cell: (event) => (
      <>
        {event.instance && <Link to={`/instances/${event.instance}`}>{event.instance}</Link>} {event.detail}
      </>
    ),
  },
  { head: "Shown by", className: "nowrap", cell: (event) => <Proof event={event} /> },
];

function Events({ events }: { events: readonly TimelineEvent[] }) {
  return (
    <section className="card" aria-label="events of the request">
      <div className="card-head">
        <h2>Events</h2>
        <span className="aside">{plural(events.length, "event")}</span>
      </div>
      {events.length === 0 ? (
        <p className="empty">No event was recorded.</p>
      ) : (
        <DataTable columns={EVENT_COLUMNS} rows={events} rowKey={(_, index) => index} />
      )}
    </section>
  );
}

function EventMark({ kind }: { kind: string }) {
  if (kind.startsWith("migration") || kind === "stage" || kind === "handover")
    return <Mark shape="moving" size={12} />;
  if (["lost", "preempted", "recovered"].includes(kind)) return <Mark shape="risk" size={12} />;
  return kind === "finished" ? <Mark shape="good" size={12} /> : <Mark shape="note" size={12} />;
}

function Proof({ event }: { event: TimelineEvent }) {
  if (event.migration_id) return <Link to={`/migrations/${event.migration_id}`}>move</Link>;
  return <span className="t3">–</span>;
}

/** Who decided its moves: a round of the loop, or a person. */
function Decisions({ moves }: { moves: readonly Migration[] }) {
  return (
    <section className="card" aria-label="decisions about the request">
      {moves.length === 0 ? (
        <p className="empty">
          No round of the rebalancing loop decided about it: a gateway placed it, and there it stayed.
        </p>
      ) : (
        <ul className="class-list">
          {moves.map((move) => (
            <li key={move.id}>
              <Link to={`/migrations/${move.id}`} className="strong">
                {move.source} → {move.destination}
              </Link>{" "}
              <span className="t2">
                {ruleWords(move)}
                {move.why && `: ${separated(move.why)}`}
              </span>{" "}
              <Link to="/scheduling" className="detail">
                rounds
              </Link>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
