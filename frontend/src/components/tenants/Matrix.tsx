import { Link } from "react-router";
import type { AttainmentRow, ClassRow, LimitRow, TenantRow } from "../../api/shapes";
import { count, percent } from "../../lib/format";
import { tenantColor } from "../../lib/tenants";
import type { LiveState } from "../../live/reducer";
import { ClassMark } from "../ClassMark";
import { Mark } from "../Mark";

interface MatrixProps {
  tenants: readonly TenantRow[];
  classes: readonly ClassRow[];
  attainment: readonly AttainmentRow[];
  limits: readonly LimitRow[];
  state: LiveState;
  chosenClass: string;
  onChooseClass: (name: string) => void;
}

interface Holding {
  running: number;
  blocks: number;
}

/** Tenant × class: what runs now, the share in target, and how much of its limits each tenant uses. */
export function Matrix({
  tenants,
  classes,
  attainment,
  limits,
  state,
  chosenClass,
  onChooseClass,
}: MatrixProps) {
  const holding = holdings(state);
  const met = new Map(attainment.map((row) => [`${row.tenant}/${row.slo_class}`, row]));
  const own = new Map(
    limits.filter((row) => row.key === null && !row.slo_class).map((row) => [row.tenant, row]),
  );
  return (
    <div className="scroll-x">
      <table className="table matrix">
        <thead>
          <tr>
            <th>Tenant</th>
            {classes.map((row) => (
              <th key={row.name} className={chosenClass === row.name ? "is-chosen" : ""}>
                <button type="button" className="matrix-class" onClick={() => onChooseClass(row.name)}>
                  <ClassMark name={row.name} /> {row.name}
                </button>
              </th>
            ))}
            <th>Requests / min</th>
            <th>Tokens / min</th>
            <th>Concurrent</th>
          </tr>
        </thead>
        <tbody>
          {tenants.map((tenant) => (
            <tr key={tenant.slug} className={tenant.active === false ? "t3" : ""}>
              <td className="nowrap">
                <span className="swatch" style={{ background: tenantColor(state.tenants, tenant.slug) }} />{" "}
                <Link to={`/tenants/${tenant.slug}`} className="strong">
                  {tenant.slug}
                </Link>
                <div className="caption">
                  {tenant.active === false
                    ? "closed"
                    : `${count(tenant.keys)} ${tenant.keys === 1 ? "key" : "keys"}`}
                </div>
              </td>
              {classes.map((row) => (
                <Cell
                  key={row.name}
                  tenant={tenant}
                  row={row}
                  held={holding.get(`${tenant.slug}/${row.name}`)}
                  met={met.get(`${tenant.slug}/${row.name}`)}
                  color={tenantColor(state.tenants, tenant.slug)}
                  objective={state.classes.get(row.name)?.objective ?? 0.99}
                />
              ))}
              <LimitCells
                tenant={tenant}
                limit={own.get(tenant.slug)}
                running={runningOf(tenant.slug, holding)}
              />
            </tr>
          ))}
        </tbody>
        <tfoot>
          <Totals {...{ tenants, classes, attainment, holding }} />
        </tfoot>
      </table>
    </div>
  );
}

type TotalsProps = Pick<MatrixProps, "tenants" | "classes" | "attainment"> & {
  holding: ReadonlyMap<string, Holding>;
};

/** All tenants together, column by column. */
function Totals({ tenants, classes, attainment, holding }: TotalsProps) {
  const recent = tenants.reduce(
    (sum, { recent: each }) => ({
      requests: sum.requests + each.requests,
      tokens: sum.tokens + each.prompt_tokens + each.output_tokens,
    }),
    { requests: 0, tokens: 0 },
  );
  const runningIn = (name: string) =>
    [...holding].reduce((sum, [key, held]) => sum + (key.endsWith(`/${name}`) ? held.running : 0), 0);
  return (
    <tr className="t2">
      <td>All</td>
      {classes.map((row) => {
        const rows = attainment.filter((each) => each.slo_class === row.name);
        const requests = rows.reduce((sum, each) => sum + each.requests, 0);
        const met = rows.reduce((sum, each) => sum + Math.min(each.ttft_met, each.tpot_met), 0);
        return (
          <td key={row.name}>
            <span className="matrix-line">
              <b>{count(runningIn(row.name))}</b>
              <span>{percent(requests ? met / requests : null)}</span>
            </span>
          </td>
        );
      })}
      <td>{count(recent.requests / WINDOW_MIN)}</td>
      <td>{count(recent.tokens / WINDOW_MIN)}</td>
      <td>{count(classes.reduce((sum, row) => sum + runningIn(row.name), 0))}</td>
    </tr>
  );
}

function holdings(state: LiveState): Map<string, Holding> {
  const sums = new Map<string, Holding>();
  for (const resident of state.residents.values()) {
    for (const request of resident.requests) {
      if (request.state === "arriving") continue;
      const key = `${request.tenant}/${request.slo_class}`;
      const known = sums.get(key) ?? { running: 0, blocks: 0 };
      sums.set(key, { running: known.running + 1, blocks: known.blocks + request.blocks });
    }
  }
  return sums;
}

function runningOf(slug: string, holding: ReadonlyMap<string, Holding>): number {
  let sum = 0;
  for (const [key, held] of holding) if (key.startsWith(`${slug}/`)) sum += held.running;
  return sum;
}

interface CellProps {
  tenant: TenantRow;
  row: ClassRow;
  held: Holding | undefined;
  met: AttainmentRow | undefined;
  color: string;
  objective: number;
}

function Cell({ tenant, row, held, met, color, objective }: CellProps) {
  const allowed = tenant.slo_class === row.name || tenant.allowed_classes.includes(row.name);
  const share = met && met.requests > 0 ? Math.min(met.ttft_met, met.tpot_met) / met.requests : null;
  const hurt = share !== null && share < objective;
  if (!allowed && !held) return <td className="detail t3">not allowed</td>;
  if (!held && share === null) {
    return (
      <td className="detail t3 nowrap">{tenant.slo_class === row.name ? "default" : "allowed"}, none</td>
    );
  }
  return (
    <td className="nowrap">
      <span className="matrix-line">
        <span>
          <ClassMark name={row.name} color={color} /> <b>{count(held?.running ?? 0)}</b>
        </span>
        <span className={hurt ? "critical strong" : "t2"}>
          {hurt && <Mark shape="hurt" size={11} />} {percent(share)}
        </span>
      </span>
      <span className="caption">
        {held ? `${count(held.blocks)} blocks` : "none now"}
        {tenant.slo_class === row.name ? " · default" : ""}
      </span>
    </td>
  );
}

const WINDOW_MIN = 15;

function LimitCells({
  tenant,
  limit,
  running,
}: {
  tenant: TenantRow;
  limit: LimitRow | undefined;
  running: number;
}) {
  const tokens = (tenant.recent.prompt_tokens + tenant.recent.output_tokens) / WINDOW_MIN;
  return (
    <>
      <UseCell value={tenant.recent.requests / WINDOW_MIN} limit={limit?.requests_per_minute ?? null} />
      <UseCell value={tokens} limit={limit?.tokens_per_minute ?? null} />
      <UseCell value={running} limit={limit?.concurrent_requests ?? null} />
    </>
  );
}

function UseCell({ value, limit }: { value: number; limit: number | null }) {
  const share = limit ? value / limit : 0;
  return (
    <td className="nowrap">
      <span className="matrix-line">
        <span className={share >= 0.9 ? "warning strong" : ""}>{count(value)}</span>
        <span className="t3 detail">{limit === null ? "no limit" : `of ${count(limit)}`}</span>
      </span>
      {limit !== null && (
        <span className="thin-track">
          <span
            className={`thin-fill ${share >= 0.9 ? "is-risk" : ""}`}
            style={{ width: `${Math.min(1, share) * 100}%` }}
          />
        </span>
      )}
    </td>
  );
}
