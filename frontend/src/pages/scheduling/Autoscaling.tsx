import { NumberInput, Select } from "@mantine/core";
import { useState } from "react";
import { Link } from "react-router";
import { post, remove } from "../../api/client";
import {
  type Pool,
  type PoolSize,
  type ScalingDecision,
  usePoolSize,
  usePools,
  useScalingDecisions,
} from "../../api/scheduling";
import { ActionButton } from "../../components/ActionButton";
import { type Column, DataTable } from "../../components/DataTable";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { FormDialog } from "../../components/dialogs/FormDialog";
import { ProblemNote } from "../../components/dialogs/Problem";
import { ReasonField } from "../../components/dialogs/Reason";
import { Mark } from "../../components/Mark";
import { Stat } from "../../components/Stat";
import { age, count, fullTime, moment, plural, separated } from "../../lib/format";
import { rangeWords } from "../../lib/range";
import { useShown } from "../../live/context";
import { useScope } from "../../live/scope";

/** Target, actual and ready apart; why they changed; hold. */
export function Autoscaling({ pool }: { pool: string }) {
  const { screenNow: now } = useShown();
  const { range } = useScope();
  const pools = usePools();
  const row = pools.data?.results.find((each) => each.name === pool);
  const size = usePoolSize(pool);
  const decisions = useScalingDecisions(pool, range);
  if (pools.error ?? size.error) return <ProblemNote error={pools.error ?? size.error} />;
  if (!row || !size.data) return <div className="skeleton" style={{ height: 160 }} />;
  return (
    <>
      <SizeCard row={row} size={size.data} now={now} />
      <section className="card" aria-label="scaling decisions">
        <div className="card-head">
          <h2>Decisions</h2>
          <span className="t3">newest first, by the loop and by people, {rangeWords(range)}</span>
        </div>
        <ProblemNote error={decisions.error} />
        <Rows rows={decisions.data?.results ?? []} now={now} />
      </section>
    </>
  );
}

function SizeCard({ row, size, now }: { row: Pool; size: PoolSize; now: number }) {
  const open = useDialog();
  const held = size.held_until !== null && Date.parse(size.held_until) / 1000 > now;
  return (
    <section className="card" aria-label="size of the pool">
      <div className="card-head">
        <h2>{row.name}</h2>
        <span className="t3">
          {row.served_model} · {size.min_instances} to {plural(size.max_instances, "instance")}
        </span>
        <span className="aside row">
          {held ? (
            <ActionButton
              className="small"
              onClick={() =>
                open({
                  kind: "confirm",
                  title: "Let the loop scale again?",
                  text: "It compares freeness with its band from the next tick on.",
                  verb: "Release the hold",
                  run: () => remove(`pools/${row.name}/autoscaling/hold`),
                  done: `${row.name} is scaled by the loop again.`,
                  touches: ["pools"],
                })
              }
            >
              Release…
            </ActionButton>
          ) : (
            <ActionButton
              className="small"
              onClick={() =>
                open({ kind: "form", content: (close) => <Hold row={row} size={size} onClose={close} /> })
              }
            >
              Hold…
            </ActionButton>
          )}
          <ActionButton
            className="small"
            onClick={() =>
              open({
                kind: "form",
                content: (close) => <Scale size={size} name={row.name} onClose={close} />,
              })
            }
          >
            Set the target…
          </ActionButton>
        </span>
      </div>
      <div className="card-body form">
        {held && (
          <div className="note">
            <Mark shape="risk" />
            <span>
              <b>Scaling is held</b> by {size.held_by || "somebody"} for{" "}
              {age(Date.parse(size.held_until ?? "") / 1000 - now)} more
              {size.hold_reason ? `: ${size.hold_reason}` : ""}. The loop neither adds nor removes.
            </span>
          </div>
        )}
        <div className="stats stats-plain">
          <Stat value={count(size.target)} unit="target" caption="wished" />
          <Stat value={count(size.actual)} unit="actual" caption="exist, starting ones included" />
          <Stat
            value={count(size.ready)}
            unit="ready"
            caption="take requests"
            tone={size.ready < size.target ? "warning" : undefined}
          />
        </div>
        <div
          className="size-bar"
          role="img"
          aria-label={`${size.ready} ready of ${size.target}, at most ${size.max_instances}`}
        >
          {Array.from({ length: Math.min(64, Math.max(size.max_instances, size.actual)) }, (_, index) => (
            <span
              key={index}
              className={
                index < size.ready
                  ? "is-ready"
                  : index < Math.max(size.target, size.actual)
                    ? "is-coming"
                    : ""
              }
            />
          ))}
        </div>
        <p className="detail t2">
          {Object.entries(size.by_state as Record<string, number>)
            .filter(([, number]) => number > 0)
            .map(([state, number]) => `${count(number)} ${state}`)
            .join(", ")}
        </p>
      </div>
    </section>
  );
}

function Rows({ rows, now }: { rows: readonly ScalingDecision[]; now: number }) {
  if (rows.length === 0) return <p className="empty">Nothing was ever added or removed.</p>;
  return <DataTable columns={columns(now)} rows={rows} rowKey={(row) => `${row.at}${row.action}`} />;
}

function columns(now: number): Column<ScalingDecision>[] {
  const at = (row: ScalingDecision) => Date.parse(row.at) / 1000;
  return [
    {
      head: "When",
      className: "t2 nowrap",
      title: (row) => fullTime(at(row)),
      cell: (row) => moment(at(row), now),
    },
    {
      head: "What",
      className: "strong nowrap",
      cell: (row) => (
        <>
          {row.action.replaceAll("_", " ")}{" "}
          {row.instance_ids.map((id) => (
            <Link key={id} to={`/instances/${id}`}>
              {id}{" "}
            </Link>
          ))}
        </>
      ),
    },
    {
      head: "Target",
      num: true,
      cell: (row) => `${count(row.target_before)} → ${count(row.target_after)}`,
    },
    {
      head: "Why",
      className: "t2",
      cell: (row) => (
        <>
          {separated(row.reason ?? "")}
          {row.problem && <span className="critical"> {row.problem}</span>}
        </>
      ),
    },
    { head: "By", className: "t2", cell: (row) => row.actor },
  ];
}

const HOLDS = [
  ["900", "15 min"],
  ["3600", "1 h"],
  ["28800", "8 h"],
  ["86400", "1 day"],
] as const;

function Hold({ row, size, onClose }: { row: Pool; size: PoolSize; onClose: () => void }) {
  const [length, setLength] = useState<string>("3600");
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={`Hold the size of ${row.name}`}
      verb="Hold"
      onClose={onClose}
      run={() =>
        post(`pools/${row.name}/autoscaling/hold`, {
          until: new Date(Date.now() + Number(length) * 1000).toISOString(),
          change_reason: reason,
        })
      }
      done={() => `${row.name} stays at ${size.target} for now.`}
      touches={["pools"]}
    >
      {() => (
        <>
          <p className="t2">
            The loop neither adds nor removes instances; drains and moves go on. It ends by itself.
          </p>
          <Select
            label="For"
            data={HOLDS.map(([value, label]) => ({ value, label }))}
            value={length}
            onChange={(value) => setLength(value ?? "3600")}
            allowDeselect={false}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

function Scale({ size, name, onClose }: { size: PoolSize; name: string; onClose: () => void }) {
  const [target, setTarget] = useState(size.target);
  const [reason, setReason] = useState("");
  const change = target - size.target;
  return (
    <FormDialog
      title={`Size of ${name}`}
      verb={
        change > 0
          ? `Add ${plural(change, "instance")}`
          : change < 0
            ? `Remove ${plural(-change, "instance")}`
            : "Set"
      }
      disabled={change === 0}
      onClose={onClose}
      run={() => post(`pools/${name}/scale`, { target, change_reason: reason })}
      done={() => `${name} goes to ${plural(target, "instance")}.`}
      touches={["pools", "instances"]}
    >
      {(error) => (
        <>
          <NumberInput
            label="Instances"
            min={size.min_instances}
            max={size.max_instances}
            value={target}
            onChange={(value) => setTarget(Number(value))}
            description={`${size.min_instances} to ${size.max_instances}`}
            error={
              error instanceof Error && "field" in error
                ? (error as { field(name: string): string | undefined }).field("target")
                : undefined
            }
          />
          <p className="t2">
            {change < 0
              ? "The emptiest ones are drained first: their requests move away while they decode, 0 dropped; then they stop."
              : "New ones load the model first and take requests once they are warm."}
          </p>
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
