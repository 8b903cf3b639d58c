import { Navigate, NavLink, Route, Routes } from "react-router";
import { OverviewSkeleton } from "../components/Skeletons";
import { age, count, duration } from "../lib/format";
import { useShown } from "../live/context";
import { usePool } from "../live/pool";
import { Autoscaling } from "./scheduling/Autoscaling";
import { Decisions } from "./scheduling/Decisions";
import { Policy } from "./scheduling/Policy";
import { Versions } from "./scheduling/Versions";
import { WhatIf } from "./scheduling/WhatIf";

const TABS = [
  ["", "Decisions"],
  ["policy", "Policy"],
  ["versions", "Versions"],
  ["what-if", "What if"],
  ["autoscaling", "Autoscaling"],
] as const;

export default function Scheduling() {
  const { state, screenNow: now } = useShown();
  const { pools, pool } = usePool();
  if (state === null) return <OverviewSkeleton />;
  const shown = pool ?? pools[0] ?? "";
  const { loop } = state;
  return (
    <>
      <div className="page-head">
        <h1>Scheduling</h1>
        <span className="t2">
          {loop?.leader
            ? `The loop is led by ${loop.leader}, epoch ${count(loop.epoch)}: a look every ${duration(loop.interval_ms)}, the last ${age(now - loop.last_tick_at)} ago in ${duration(loop.tick_ms)}.`
            : "Nobody leads the loop now: requests are served, nothing is moved or scaled."}
        </span>
      </div>
      <nav className="tabs" aria-label="Scheduling">
        {TABS.map(([path, name]) => (
          <NavLink key={path} to={`/scheduling${path && `/${path}`}`} end>
            {name}
          </NavLink>
        ))}
      </nav>
      <Routes>
        <Route index element={<Decisions />} />
        <Route path="policy" element={<Policy pool={shown} />} />
        <Route path="versions" element={<Versions pool={shown} />} />
        <Route path="what-if" element={<WhatIf pool={shown} />} />
        <Route path="autoscaling" element={<Autoscaling pool={shown} />} />
        <Route path="*" element={<Navigate to="/scheduling" replace />} />
      </Routes>
    </>
  );
}
