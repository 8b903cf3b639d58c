import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { get } from "../../api/client";
import { ProblemNote } from "../../components/dialogs/Problem";
import { FactList } from "../../components/FactList";
import { age, count } from "../../lib/format";
import { useShown } from "../../live/context";

interface Health {
  database: string;
  redis: string;
  loop: { leader: string; epoch: number; last_tick_at: string | null } | null;
  gateways: { gateway_id: string; url: string }[] | null;
  instances: { reported: number; fresh: number; ready: number } | null;
}

/** What the console reaches, and where its documents are. */
export function System() {
  const { now } = useShown();
  const health = useQuery({
    queryKey: ["health"],
    queryFn: () => get<Health>("health"),
    refetchInterval: 5_000,
  });
  const found = health.data;
  return (
    <div className="grid split">
      <div>
        <ProblemNote error={health.error} />
        {found && (
          <FactList
            label="system"
            rows={[
              ["Database", found.database],
              ["Redis", found.redis],
              [
                "Rebalancing loop",
                found.loop?.leader
                  ? `${found.loop.leader}, epoch ${count(found.loop.epoch)}${found.loop.last_tick_at ? `, ticked ${age(now - Date.parse(found.loop.last_tick_at) / 1000)} ago` : ""}`
                  : "nobody leads",
              ],
              [
                "Gateways",
                found.gateways?.map((each) => `${each.gateway_id} ${each.url}`).join(", ") || "none",
              ],
              [
                "Instances",
                found.instances
                  ? `${count(found.instances.ready)} ready of ${count(found.instances.reported)} that reported`
                  : "–",
              ],
            ]}
          />
        )}
      </div>
      <section className="card card-body form">
        <h2 className="words-title">For scripts</h2>
        <p className="t2">
          Everything on these pages goes through the same API: <a href="/api/v1/schema">/api/v1/schema</a>{" "}
          describes it. Machine tokens are made by admins.
        </p>
        <h2 className="words-title">Something wrong?</h2>
        <p className="t2">
          <code className="mono">.venv/bin/python manage.py doctor</code> on the console's machine looks at
          database, Redis, loop, jobs, engines and gateways, and names what fails with what to do.{" "}
          <Link to="/docs/runbooks">Runbooks</Link> say what to do when an alert fires.
        </p>
      </section>
    </div>
  );
}
