import { Link } from "react-router";
import { drainImpact } from "../../lib/drain";
import { instanceLevel, isDraining, stateWord, usedShare } from "../../lib/fleet";
import { age, count, duration, percent, plural } from "../../lib/format";
import { tenantColor } from "../../lib/tenants";
import type { LiveState } from "../../live/reducer";
import type { Instance, LiveRequest } from "../../live/types";
import { ActionButton } from "../ActionButton";
import { useDialog } from "../dialogs/DialogProvider";
import { Mark } from "../Mark";

interface PanelProps {
  instance: Instance;
  state: LiveState;
  requests: readonly LiveRequest[] | undefined;
  now: number;
  onClose: () => void;
}

/** What is known of the selected cell, who holds its memory, and what can be done. */
export function SelectionPanel({ instance, state, requests, now, onClose }: PanelProps) {
  const open = useDialog();
  const level = instanceLevel(instance, now);
  const impact = drainImpact(state, instance, now);
  const rows: [string, string][] = [
    ["Used", `${count(instance.used_blocks)} of ${count(instance.total_blocks)} blocks`],
    ["Freeness", instance.freeness === null ? "–" : `${count(instance.freeness)} steps`],
    ["Running, waiting", `${count(instance.running)}, ${count(instance.waiting)}`],
    ["Decode step", duration(instance.step_ms)],
    ["Preempted since start", count(instance.preemptions_total)],
    ["Report", instance.heard_at === null ? "none yet" : `${age(now - instance.heard_at)} ago`],
  ];
  return (
    <aside className="card selection" aria-label="selected instance">
      <div className="card-head">
        {level !== "good" && <Mark shape={level} />}
        <h2>{instance.id}</h2>
        <span className="t3">{[instance.host, stateWord(instance, now)].filter(Boolean).join(" · ")}</span>
        <span className="aside row">
          <Link to={`/instances/${instance.id}`}>Open ↗</Link>
          <button type="button" className="btn small quiet" aria-label="Close the panel" onClick={onClose}>
            ×
          </button>
        </span>
      </div>
      <div className="card-body">
        <p className="t2">{sentence(instance)}</p>
        <dl className="facts">
          {rows.map(([name, value]) => (
            <div key={name}>
              <dt className="t3">{name}</dt>
              <dd className="strong">{value}</dd>
            </div>
          ))}
        </dl>
      </div>
      {requests && requests.length > 0 && <ByTenant requests={requests} tenants={state.tenants} />}
      <div className="card-body selection-actions">
        <div className="row">
          {isDraining(instance) ? (
            <ActionButton onClick={() => open({ kind: "undrain", instanceId: instance.id })}>
              Undrain {instance.id}…
            </ActionButton>
          ) : (
            <ActionButton onClick={() => open({ kind: "drain", instanceId: instance.id })}>
              Drain {instance.id}…
            </ActionButton>
          )}
          <ActionButton onClick={() => open({ kind: "migrate", sourceId: instance.id })}>
            Migrate a request…
          </ActionButton>
        </div>
        <p className="detail t2">
          {isDraining(instance)
            ? `${plural((instance.running ?? 0) + (instance.waiting ?? 0), "request is", "requests are")} still here.`
            : `Draining would move ${plural(impact.running, "running request")} and ${count(impact.waiting)} waiting to ${plural(impact.others.length, "instance")}${
                impact.aboutMs === null ? "" : ` in about ${duration(Math.max(100, impact.aboutMs))}`
              }, 0 dropped.${impact.fits ? "" : " Not everything has room elsewhere now."}`}
        </p>
      </div>
    </aside>
  );
}

function sentence(instance: Instance): string {
  const share = usedShare(instance);
  if (share === null) return "It has not reported yet.";
  const head = instance.head_of_line_blocks ?? 0;
  const free = Math.max(
    0,
    (instance.total_blocks ?? 0) - (instance.used_blocks ?? 0) - (instance.reserved_blocks ?? 0),
  );
  if ((instance.waiting ?? 0) > 0 && head > free) {
    return `${percent(share)} full: the first in line wants ${count(head)} blocks, ${count(free)} are free.`;
  }
  return `${percent(share)} full, ${count(free)} blocks free.`;
}

function ByTenant({ requests, tenants }: { requests: readonly LiveRequest[]; tenants: readonly string[] }) {
  const sums = new Map<string, number>();
  for (const request of requests) {
    sums.set(request.tenant, (sums.get(request.tenant) ?? 0) + request.blocks);
  }
  const rows = [...sums].filter(([, blocks]) => blocks > 0).sort((a, b) => b[1] - a[1]);
  const most = rows[0]?.[1] ?? 1;
  return (
    <div className="card-body by-tenant">
      <div className="row caption">
        Memory by tenant <span className="push">blocks</span>
      </div>
      {rows.slice(0, 8).map(([tenant, blocks]) => (
        <div key={tenant} className="by-tenant-row">
          <span className="row nowrap">
            <span className="swatch" style={{ background: tenantColor(tenants, tenant) }} /> {tenant || "–"}
          </span>
          <span className="thin-track">
            <span
              style={{ width: `${(blocks / most) * 100}%`, background: tenantColor(tenants, tenant) }}
              className="thin-fill"
            />
          </span>
          <span className="num">{count(blocks)}</span>
        </div>
      ))}
    </div>
  );
}
