import { Link } from "react-router";
import { age, count, duration, durationParts, separated } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import { outcomeOf, ruleWords, shortId, shortMove, splitStages, stopLong } from "../lib/words";
import type { Migration, Stage } from "../live/types";
import { ClassMark } from "./ClassMark";
import { Mark } from "./Mark";

interface LaneProps {
  move: Migration;
  tenants: readonly string[];
  now: number;
  /** TPOT target of its class: a longer downtime is shown in red. */
  limitMs: number | null;
}

/** One move: path, request, stages as chips, and the downtime in large. */
export function MoveLane({ move, tenants, now, limitMs }: LaneProps) {
  const outcome = outcomeOf(move);
  return (
    <div className="lane">
      <div className="lane-path">
        <div className="lane-from">
          <Link to={`/instances/${move.source}`}>{move.source}</Link>
          <Arrow outcome={outcome} />
          <Link to={`/instances/${move.destination}`}>{move.destination}</Link>
        </div>
        <Link className="mono t3" to={`/migrations/${move.id}`} title={move.id}>
          {shortMove(move.id)}
        </Link>
      </div>
      <div className="lane-what detail">
        <div>
          <ClassMark name={move.slo_class} color={tenantColor(tenants, move.tenant)} />{" "}
          <span className="mono" title={move.request_id}>
            {shortId(move.request_id)}
          </span>
        </div>
        <div className="t2">
          {[move.tenant, move.slo_class].filter(Boolean).join(" · ")}
          {move.tokens_at_start ? `, ${count(move.tokens_at_start)} tokens` : ""}
        </div>
        <div className="t3" title={move.why}>
          {ruleWords(move)}
          {move.why ? `: ${separated(move.why)}` : ""}
        </div>
      </div>
      <Stages move={move} />
      <Downtime move={move} now={now} limitMs={limitMs} />
    </div>
  );
}

function Arrow({ outcome }: { outcome: ReturnType<typeof outcomeOf> }) {
  const color = outcome === "running" || outcome === "doubt" ? "var(--accent)" : "var(--text-3)";
  const dash = outcome === "stopped" || outcome === "late" ? "3 3" : undefined;
  return (
    <svg width={34} height={10} aria-label="to" role="img">
      <path d="M1 5h26" stroke={color} strokeWidth={1.6} strokeDasharray={dash} />
      <path d="M26 1.5 33 5l-7 3.500z" fill={color} />
    </svg>
  );
}

function Stages({ move }: { move: Migration }) {
  const outcome = outcomeOf(move);
  if (outcome === "stopped" || outcome === "late") {
    return (
      <div className="chips">
        {move.stages.map((stage) => (
          <StageChip
            key={stage.stage}
            name={`stage ${stage.stage}`}
            shape="stopped"
            text={stageWords(stage)}
            share={1}
          />
        ))}
        <p className="detail t2 chips-why">{stopLong(move)}</p>
      </div>
    );
  }
  const { copies, handOver } = splitStages(move);
  const next = copies.length;
  const handing = ["freezing", "committed", "in_doubt"].includes(move.state);
  const done = outcome === "finished";
  return (
    <div className="chips">
      {copies.map((stage) => (
        <StageChip
          key={stage.stage}
          name={`stage ${stage.stage}`}
          shape="good"
          text={stageWords(stage)}
          share={1}
          wide={stage.blocks}
        />
      ))}
      {!handing && !done && (
        <StageChip
          name={`stage ${next}`}
          shape="moving"
          text={
            move.state === "reserving"
              ? "asking for room"
              : `copying, ${move.tokens_at_start ? `of ${count(move.tokens_at_start)} tokens` : "while it decodes"}`
          }
          share={null}
          wide={next === 0 ? 8 : 1}
        />
      )}
      <StageChip
        name="freeze, hand over"
        shape={done ? "good" : handing ? "moving" : "note"}
        text={
          done
            ? handOverWords(handOver, move)
            : move.state === "in_doubt"
              ? "asking who has it"
              : handing
                ? "under way"
                : "not yet"
        }
        share={done ? 1 : handing ? null : 0}
        strong={done}
      />
    </div>
  );
}

function stageWords(stage: Stage): string {
  const made = stage.tokens_meanwhile ? ` · +${count(stage.tokens_meanwhile)} tokens` : "";
  return `${count(stage.blocks)} ${stage.blocks === 1 ? "block" : "blocks"} · ${duration(stage.duration_ms)}${made}`;
}

interface ChipProps {
  name: string;
  shape: "good" | "moving" | "note" | "stopped";
  text: string;
  /** Null: under way, how far is not known. */
  share: number | null;
  wide?: number;
  strong?: boolean;
}

export function StageChip({ name, shape, text, share, wide = 1, strong = false }: ChipProps) {
  return (
    <div className="chip" style={{ flexGrow: 1 + Math.min(2, wide / 16) }}>
      <div className={`detail ${shape === "note" ? "t3" : "strong"}`}>
        {shape === "note" ? <span className="ring" aria-hidden /> : <Mark shape={shape} size={12} />} {name}
      </div>
      <div className={`chip-track ${share === null ? "is-busy" : ""}`}>
        <div
          className={`chip-fill ${strong ? "is-strong" : ""} ${shape === "stopped" ? "is-stopped" : ""}`}
          style={{ width: `${(share ?? 0) * 100}%` }}
        />
      </div>
      <div className="caption">{text}</div>
    </div>
  );
}

function Downtime({ move, now, limitMs }: { move: Migration; now: number; limitMs: number | null }) {
  const ended = move.ended_at;
  const over = move.downtime_ms !== null && limitMs !== null && move.downtime_ms > limitMs;
  const parts = move.downtime_ms === null ? null : durationParts(move.downtime_ms);
  return (
    <div className="lane-downtime">
      <div className={`lane-number ${over ? "critical" : ""}`}>
        {parts ? (
          <>
            {parts.value}
            <span className="unit">{parts.unit}</span>
          </>
        ) : (
          "–"
        )}
      </div>
      <div className="caption">
        {ended === null
          ? runningWords(move, now)
          : `${parts ? "downtime" : "stopped"} · ${age(now - ended)} ago`}
      </div>
    </div>
  );
}

const SILENT_S = 10;

function runningWords(move: Migration, now: number): string {
  const silence = now - move.updated_at;
  return silence > SILENT_S ? `no news for ${age(silence)}` : `running for ${age(now - move.started_at)}`;
}

function handOverWords(stage: Stage | null, move: Migration): string {
  const blocks = stage
    ? `${count(stage.blocks)} ${stage.blocks === 1 ? "block" : "blocks"} + state`
    : "tail and state";
  return `${blocks} · ${duration(move.downtime_ms)}`;
}
