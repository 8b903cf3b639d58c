import { NumberInput, Slider, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { getVersioned, patch, type Versioned } from "../../api/client";
import type { ClassRow } from "../../api/shapes";
import { count, percent, plural } from "../../lib/format";
import { type HeadroomEffect, type HostNow, headroomEffect } from "../../lib/headroom";
import { useShown } from "../../live/context";
import { useInstances } from "../../live/pool";
import { useMe } from "../../session";
import { ClassMark } from "../ClassMark";
import { useDialog } from "../dialogs/DialogProvider";
import { ProblemNote } from "../dialogs/Problem";
import { Mark } from "../Mark";

interface PanelProps {
  name: string;
  usedBy: readonly string[];
  onClose: () => void;
}

/** A class as a form, with what its headroom does to the fleet as it is. */
export function ClassPanel({ name, usedBy, onClose }: PanelProps) {
  const found = useQuery({
    queryKey: ["classes", name, "versioned"],
    queryFn: () => getVersioned<ClassRow>(`slo-classes/${name}`),
  });
  return (
    <section className="card" aria-label={`class ${name}`}>
      <div className="card-head">
        <ClassMark name={name} />
        <h2>Class {name}</h2>
        <span className="aside row">
          {usedBy.length
            ? `default of ${usedBy.slice(0, 3).join(", ")}${usedBy.length > 3 ? " …" : ""}`
            : "nobody's default"}
          <button type="button" className="btn small quiet" aria-label="Close the class" onClick={onClose}>
            ×
          </button>
        </span>
      </div>
      <ProblemNote error={found.error} />
      {found.data ? (
        <Form key={found.data.etag} found={found.data} />
      ) : (
        <div className="skeleton" style={{ height: 300, margin: 14 }} />
      )}
    </section>
  );
}

type Draft = Pick<
  ClassRow,
  "description" | "rank" | "ttft_target_ms" | "tpot_target_ms" | "target_load_tokens"
>;

function Form({ found }: { found: Versioned<ClassRow> }) {
  const me = useMe();
  const open = useDialog();
  const queries = useQueryClient();
  const row = found.value;
  const [draft, setDraft] = useState<Draft>(row);
  const { screenNow: now } = useShown();
  const instances = useInstances();
  const set = (changes: Partial<Draft>) => setDraft((before) => ({ ...before, ...changes }));
  const before = { target: row.target_load_tokens ?? null };
  const after = { target: draft.target_load_tokens ?? null };
  const effect = headroomEffect(instances, row.name, before, after, now);
  const names = ["description", "rank", "ttft_target_ms", "tpot_target_ms", "target_load_tokens"] as const;
  const changes = Object.fromEntries(
    names.filter((each) => draft[each] !== row[each]).map((each) => [each, draft[each] ?? null]),
  );
  const changed = Object.keys(changes).length > 0;
  const reason = !me.may_act ? "needs role admin" : "";
  return (
    <>
      <div className="card-body form class-form">
        <div className="two-fields">
          <Milliseconds
            label="TTFT target"
            value={draft.ttft_target_ms}
            onChange={(value) => set({ ttft_target_ms: value })}
          />
          <Milliseconds
            label="TPOT target"
            value={draft.tpot_target_ms}
            onChange={(value) => set({ tpot_target_ms: value })}
          />
          <NumberInput
            label="Queue order"
            description="lower is served first"
            min={0}
            max={1000}
            value={draft.rank}
            onChange={(value) => set({ rank: Number(value) })}
          />
          <TextInput
            label="For what"
            description="seen by tenants"
            maxLength={300}
            value={draft.description ?? ""}
            onChange={(event) => set({ description: event.currentTarget.value })}
          />
        </div>
        <TargetLoad
          draft={draft}
          row={row}
          effect={effect}
          onChange={(value) => set({ target_load_tokens: value })}
        />
        <Effect effect={effect} name={row.name} target={after.target} />
      </div>
      <div className="card-body form-actions class-actions">
        <button type="button" className="btn" disabled={!changed} onClick={() => setDraft(row)}>
          Discard
        </button>
        <button
          type="button"
          className="btn primary"
          disabled={!changed || reason !== ""}
          title={reason || undefined}
          onClick={() =>
            open({
              kind: "confirm",
              title: `Change class ${row.name}?`,
              text: (
                <>
                  <p>
                    It counts for every tenant that is served under it, from the next dispatch and tick on.
                  </p>
                  <ul>
                    {Object.entries(changes).map(([field, value]) => (
                      <li key={field}>
                        {field.replaceAll("_", " ")}:{" "}
                        <s className="t3">{String(row[field as keyof ClassRow] ?? "none")}</s>{" "}
                        <b>{String(value ?? "none")}</b>
                      </li>
                    ))}
                  </ul>
                </>
              ),
              verb: `Change ${row.name}`,
              run: async (why) => {
                await patch(`slo-classes/${row.name}`, { ...changes, change_reason: why }, found.etag);
                await queries.invalidateQueries({ queryKey: ["classes"] });
              },
              done: `Class ${row.name} is changed.`,
              touches: ["classes", "tenants"],
            })
          }
        >
          Change {row.name}…
        </button>
      </div>
    </>
  );
}

function Milliseconds({
  label,
  value,
  onChange,
}: {
  label: string;
  value: number | null | undefined;
  onChange: (value: number | null) => void;
}) {
  return (
    <NumberInput
      label={label}
      description="ms, p99; empty: none"
      min={1}
      value={value ?? ""}
      onChange={(next) => onChange(next === "" ? null : Number(next))}
    />
  );
}

interface TargetProps {
  draft: Draft;
  row: ClassRow;
  effect: HeadroomEffect;
  onChange: (value: number | null) => void;
}

function TargetLoad({ draft, row, effect, onChange }: TargetProps) {
  const instances = useInstances();
  const most = Math.max(
    1000,
    ...instances.map((item) => (item.total_blocks ?? 0) * (item.block_size_tokens ?? 0)),
    row.target_load_tokens ?? 0,
  );
  const value = draft.target_load_tokens ?? null;
  const marks = row.target_load_tokens == null ? [] : [{ value: row.target_load_tokens, label: "now" }];
  return (
    <div>
      <div className="row">
        <label className="row" htmlFor="keeps-headroom">
          <input
            id="keeps-headroom"
            type="checkbox"
            checked={value !== null}
            onChange={(event) => onChange(event.currentTarget.checked ? Math.round(most * 0.75) : null)}
          />
          Keep headroom for it
        </label>
        <span className="push detail">
          {value === null ? (
            <span className="t3">others may fill everything</span>
          ) : (
            <>
              others fill a host up to <b>{count(value)} tokens</b>
            </>
          )}
        </span>
      </div>
      {value !== null && (
        <Slider
          aria-label="Target load in tokens"
          min={0}
          max={most}
          step={Math.max(1, Math.round(most / 200))}
          value={value}
          onChange={onChange}
          marks={marks}
          label={(at) => `${count(at)} tokens`}
          mb={24}
          mt={8}
        />
      )}
      <div className="caption">
        {plural(effect.hosts.length, "instance")} of {count(effect.serving)} host it now
      </div>
    </div>
  );
}

/** The effect of the headroom, in words and numbers. */
function Effect({ effect, name, target }: { effect: HeadroomEffect; name: string; target: number | null }) {
  const share = effect.poolTokens ? effect.keptDraft / effect.poolTokens : 0;
  return (
    <div>
      <h3 className="strong">What this does</h3>
      <p className="detail t2">
        {target === null
          ? `No memory is kept for ${name}: the others may fill its instances, and its requests have no right of way while they decode.`
          : effect.hosts.length === 0
            ? `No instance runs a ${name} request now, so nothing is kept at this moment.`
            : `On each instance that runs a ${name} request, what lies beyond ${count(target)} tokens is out of the others' reach. ${plural(effect.hosts.length, "instance does", "instances do")} now, so ${count(effect.keptDraft)} tokens are kept, ${percent(share)} of the pool; now it is ${count(effect.keptNow)}.`}
      </p>
      {effect.hosts
        .filter((each) => each.keptNow !== each.keptDraft)
        .slice(0, 3)
        .map((each) => (
          <HostBars key={each.id} host={each} />
        ))}
      {effect.keptDraft > effect.keptNow && (
        <p className="detail">
          <Mark shape="risk" size={12} /> The other classes get {count(effect.keptDraft - effect.keptNow)}{" "}
          tokens less.
        </p>
      )}
    </div>
  );
}

function HostBars({ host }: { host: HostNow }) {
  return (
    <div className="host-bars">
      {(
        [
          ["now", host.keptNow],
          ["changed", host.keptDraft],
        ] as const
      ).map(([when, kept]) => {
        const rest = Math.max(0, host.capacityTokens - host.usedTokens - host.arrivingTokens - kept);
        const part = (tokens: number) =>
          ({ "--share": tokens / Math.max(1, host.capacityTokens) }) as React.CSSProperties;
        return (
          <div key={when}>
            <div className="caption">
              {host.id} {when}: {count(rest)} tokens for others
            </div>
            <div className="membar" aria-hidden>
              <span className="seg seg-used pattern-plain" style={part(host.usedTokens)} />
              <span className="seg seg-arriving" style={part(host.arrivingTokens)} />
              <span className="seg seg-headroom" style={part(kept)} />
            </div>
          </div>
        );
      })}
    </div>
  );
}
