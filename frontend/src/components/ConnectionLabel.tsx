import { useEffect, useState } from "react";
import { age } from "../lib/format";
import { useLiveStore, useView } from "../live/context";
import { LATE_S, STALE_S } from "../live/freshness";
import type { LiveState } from "../live/reducer";
import type { Connection } from "../live/socket";

/** The line to the console: live with the data's age, late, stale, lost with the next try, or paused. */
export function ConnectionLabel() {
  const { connection, pausedAt, now, silentFor, state } = useView();
  if (pausedAt !== null) {
    return (
      <span className="age strong" role="status">
        <span aria-hidden>❚❚</span> Paused <span className="t3">by you, {age(now - pausedAt)} behind</span>
      </span>
    );
  }
  if (connection.kind === "lost")
    return <LostLabel connection={connection} silentFor={silentFor} known={state !== null} />;
  if (connection.kind === "refused") return <span className="age age-stale">Signed out</span>;
  if (state === null) return <span className="age age-unknown">Connecting…</span>;
  const old = dataAge(state, now, silentFor);
  const kind = old < LATE_S ? "live" : old < STALE_S ? "late" : "stale";
  return (
    <span className={`age age-${kind}`} role="status">
      <span className="age-dot" aria-hidden />
      <span>{{ live: "Live", late: "Late", stale: "Stale" }[kind]}</span>
      <span className="age-value t3">{age(old)} ago</span>
    </span>
  );
}

/** Age of the newest thing shown: the last frame, or the freshest report where instances are known. */
function dataAge(state: LiveState, now: number, silentFor: number): number {
  const heard = [...state.instances.values()].flatMap((item) =>
    item.heard_at === null ? [] : [item.heard_at],
  );
  return heard.length ? Math.max(silentFor, now - Math.max(...heard)) : silentFor;
}

function LostLabel({
  connection,
  silentFor,
  known,
}: {
  connection: Extract<Connection, { kind: "lost" }>;
  silentFor: number;
  known: boolean;
}) {
  const store = useLiveStore();
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((value) => value + 1), 500);
    return () => clearInterval(timer);
  }, []);
  const wait = Math.max(0, (connection.retryAt - Date.now()) / 1000);
  return (
    <span className="age warning" role="status">
      <span className="age-dot" style={{ background: "var(--warning)" }} aria-hidden />
      <span>
        Connection lost
        {known && <span className="t3"> · shown: {age(silentFor)} old</span>}
        <span className="t3 wide"> · {wait > 0.2 ? `next try in ${Math.ceil(wait)} s` : "trying…"}</span>
      </span>
      <button type="button" className="btn small" onClick={store.retryNow}>
        Try now
      </button>
    </span>
  );
}
