import { useEffect, useState } from "react";
import { Link, useParams } from "react-router";
import { post, remove } from "../api/client";
import type { TenantRow } from "../api/shapes";
import { useBoosts, useClasses, useMembers, useTenant, useUsage } from "../api/tenants";
import { ActionButton } from "../components/ActionButton";
import { Picker } from "../components/Choices";
import { ClassMark } from "../components/ClassMark";
import { useDialog } from "../components/dialogs/DialogProvider";
import { ProblemNote } from "../components/dialogs/Problem";
import { FactList } from "../components/FactList";
import { AddMember, NewBoost } from "../components/tenants/forms";
import { Keys } from "../components/tenants/Keys";
import { LimitsCard } from "../components/tenants/LimitsCard";
import { OwnButton } from "../components/tenants/OwnButton";
import { Served } from "../components/tenants/Served";
import { UsageChart } from "../components/tenants/UsageChart";
import { count, fixed, plural } from "../lib/format";
import { useUrlState } from "../lib/urlState";
import { useMe } from "../session";
import { Boosts } from "./Tenants";

export default function TenantPage() {
  const { slug = "" } = useParams();
  const tenant = useTenant(slug);
  if (tenant.error) return <ProblemNote error={tenant.error} />;
  if (!tenant.data) return <div className="skeleton" style={{ height: 300 }} />;
  return <Known tenant={tenant.data} />;
}

function Known({ tenant }: { tenant: TenantRow }) {
  const boosts = useBoosts(tenant.slug);
  return (
    <>
      <Head tenant={tenant} />
      <div className="grid columns">
        <div className="side">
          <Served slug={tenant.slug} />
          <Keys slug={tenant.slug} />
          <LimitsCard slug={tenant.slug} />
          <Usage slug={tenant.slug} />
        </div>
        <div className="side">
          <FactList
            rows={[
              ["Served as", tenant.slo_class],
              [
                "May also ask for",
                tenant.allowed_classes.filter((each) => each !== tenant.slo_class).join(", ") ||
                  "nothing else",
              ],
              ["At most", tenant.maximum_class ?? "no bound"],
              ["Weight in its class", fixed(tenant.weight ?? 1, 1)],
              ["Requests, 15 min", count(tenant.recent.requests)],
              ["Tokens in, 15 min", count(tenant.recent.prompt_tokens)],
              ["Tokens out, 15 min", count(tenant.recent.output_tokens)],
              ["Since", tenant.created_at.slice(0, 10)],
            ]}
          />
          <Boosts rows={boosts.data ?? []} />
          <Members slug={tenant.slug} />
        </div>
      </div>
    </>
  );
}

function Head({ tenant }: { tenant: TenantRow }) {
  const open = useDialog();
  const me = useMe();
  const classes = useClasses();
  const [wanted, setWanted] = useUrlState<string>("do", "");
  const changeClass = () =>
    open({ kind: "class", tenant: tenant.slug, current: tenant.slo_class, allowed: tenant.allowed_classes });
  // biome-ignore lint/correctness/useExhaustiveDependencies: the palette asks once, by the URL.
  useEffect(() => {
    if (wanted !== "class") return;
    setWanted("");
    if (me.may_act) changeClass();
  }, [wanted]);
  const closed = tenant.active === false;
  const notOwner = me.role === "tenant_owner" ? "needs role operator" : "";
  return (
    <div className="page-head">
      <Link to="/tenants" className="t3">
        Tenants
      </Link>
      <span className="t3">/</span>
      <h1>{tenant.slug}</h1>
      <span className="tag">
        <ClassMark name={tenant.slo_class} /> {tenant.slo_class}
      </span>
      {closed && <span className="tag dashed">closed</span>}
      <span className="t2">{tenant.description || tenant.name}</span>
      <div className="actions">
        <ActionButton blocked={notOwner} onClick={changeClass}>
          Change class…
        </ActionButton>
        <ActionButton
          blocked={notOwner}
          onClick={() =>
            open({
              kind: "form",
              content: (close) => (
                <NewBoost
                  tenants={[tenant.slug]}
                  tenant={tenant.slug}
                  classes={classes.data ?? []}
                  onClose={close}
                />
              ),
            })
          }
        >
          Boost…
        </ActionButton>
        <ActionButton
          className={closed ? "" : "danger"}
          blocked={me.role === "admin" ? "" : "needs role admin"}
          onClick={() =>
            open({
              kind: "confirm",
              title: closed ? `Reopen ${tenant.slug}?` : `Close ${tenant.slug}?`,
              text: closed
                ? "Its valid keys work again within seconds."
                : "Its keys are refused within 5 s; requests that run now end normally. It can be reopened.",
              verb: closed ? "Reopen it" : "Close it",
              danger: !closed,
              run: (reason) =>
                post(`tenants/${tenant.slug}/${closed ? "reopen" : "close"}`, { change_reason: reason }),
              done: `${tenant.slug} is ${closed ? "open again" : "closed"}.`,
              touches: ["tenants"],
            })
          }
        >
          {closed ? "Reopen…" : "Close…"}
        </ActionButton>
      </div>
    </div>
  );
}

const SPANS = [
  ["7", "7 days"],
  ["30", "30 days"],
  ["90", "90 days"],
] as const;

function Usage({ slug }: { slug: string }) {
  const [days, setDays] = useState<(typeof SPANS)[number][0]>("30");
  const usage = useUsage(slug, Number(days));
  const rows = usage.data ?? [];
  const byClass = new Map<string, { requests: number; tokens: number; failed: number }>();
  for (const row of rows) {
    const known = byClass.get(row.slo_class ?? "") ?? { requests: 0, tokens: 0, failed: 0 };
    byClass.set(row.slo_class ?? "", {
      requests: known.requests + row.requests,
      tokens: known.tokens + row.prompt_tokens + row.output_tokens,
      failed: known.failed + row.failed,
    });
  }
  return (
    <section className="card" aria-label="usage">
      <div className="card-head">
        <h2>Usage</h2>
        <Picker label="Last" value={days} options={SPANS} onChange={setDays} />
        <span className="aside">
          <a href={`/api/v1/usage?tenant=${slug}&by=day,slo_class&export=csv`} download={`${slug}-usage.csv`}>
            Export CSV
          </a>
        </span>
      </div>
      <ProblemNote error={usage.error} />
      <div className="card-body">
        {rows.length === 0 ? (
          <p className="t2">Nothing finished in this time.</p>
        ) : (
          <>
            <UsageChart rows={rows} days={Number(days)} />
            <ul>
              {[...byClass].map(([name, sum]) => (
                <li key={name} className="detail">
                  <ClassMark name={name} /> {name}: {plural(sum.requests, "request")}, {count(sum.tokens)}{" "}
                  tokens
                  {sum.failed ? `, ${count(sum.failed)} failed` : ""}
                </li>
              ))}
            </ul>
          </>
        )}
      </div>
    </section>
  );
}

function Members({ slug }: { slug: string }) {
  const open = useDialog();
  const members = useMembers(slug);
  return (
    <section className="card" aria-label="members">
      <div className="card-head">
        <h2>Members</h2>
        <span className="aside">
          <OwnButton
            className="small"
            onClick={() =>
              open({ kind: "form", content: (close) => <AddMember tenant={slug} onClose={close} /> })
            }
          >
            Add…
          </OwnButton>
        </span>
      </div>
      <ProblemNote error={members.error} />
      <ul className="class-list">
        {(members.data ?? []).map((row) => (
          <li key={row.username} className="row">
            <b>{row.username}</b> <span className="t3">{(row.role ?? "").replace("_", " ")}</span>
            <OwnButton
              className="small quiet push"
              onClick={() =>
                open({
                  kind: "confirm",
                  title: `Take ${row.username} out of ${slug}?`,
                  text: "They can no longer see or change this tenant.",
                  verb: "Take out",
                  run: () => remove(`tenants/${slug}/members/${row.username}`),
                  done: `${row.username} is no longer a member of ${slug}.`,
                  touches: ["tenants"],
                })
              }
            >
              Remove…
            </OwnButton>
          </li>
        ))}
        {members.data?.length === 0 && <li className="t2">Nobody but the operators manages it.</li>}
      </ul>
    </section>
  );
}
