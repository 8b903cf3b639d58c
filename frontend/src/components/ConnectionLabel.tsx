import { useEffect, useState } from "react";
import { age } from "../lib/format";
import { useLiveStore, useView } from "../live/context";
import { LATE_S, STALE_S } from "../live/freshness";
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
  const kind = silentFor < LATE_S ? "live" : silentFor < STALE_S ? "late" : "stale";
  return (
    <span className={`age age-${kind}`} role="status">
      <span className="age-dot" aria-hidden />
      <span>{{ live: "Live", late: "Late", stale: "Stale" }[kind]}</span>
      <span className="age-value t3">{age(silentFor)} ago</span>
    </span>
  );
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
