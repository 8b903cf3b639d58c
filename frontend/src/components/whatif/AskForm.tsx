import { NumberInput, Select } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { type PolicyVersion, usePolicies, usePolicyFields } from "../../api/scheduling";
import type { WhatIfJob } from "../../api/shapes";
import { type Trace, useTraces } from "../../api/whatif";
import { count, duration } from "../../lib/format";
import { RANGES, rangeOf, sinceOf } from "../../lib/range";
import { ActionButton } from "../ActionButton";
import { ProblemNote } from "../dialogs/Problem";

const RECORD = "record";
const UPLOAD = "upload";
const RECORD_RANGES = ["15m", "1h", "6h", "24h"] as const;

/** Which traffic, which two policies, how many instances. */
export function AskForm({ pool, onAsked }: { pool: string; onAsked: (id: number) => void }) {
  const queries = useQueryClient();
  const traces = useTraces();
  const choices = usePolicyChoices(pool);
  const [traffic, setTraffic] = useState(RECORD);
  const [range, setRange] = useState<string>("15m");
  const [file, setFile] = useState<File | null>(null);
  const [pair, setPair] = useState<[string, string]>(["", ""]);
  const [instances, setInstances] = useState<number | "">("");
  const [first, second] = [pair[0] || choices[0]?.value || "", pair[1] || choices[1]?.value || ""];
  const ask = useMutation({
    mutationFn: async () => {
      const trace = await traceOf(traffic, { pool, range, file });
      return post<WhatIfJob>("what-if/jobs", {
        trace,
        pool,
        policies: [first, second].map((value) => choices.find((each) => each.value === value)?.asked),
        ...(instances === "" ? {} : { instances }),
      });
    },
    onSuccess: (job) => {
      void queries.invalidateQueries({ queryKey: ["what-if"] });
      onAsked(job.id);
    },
  });
  const blocked =
    traffic === UPLOAD && !file ? "choose a file" : first === second ? "choose two policies" : "";
  return (
    <div className="card-body form">
      <Select
        label="Traffic"
        value={traffic}
        onChange={(value) => setTraffic(value ?? RECORD)}
        allowDeselect={false}
        data={[
          { value: RECORD, label: `What ${pool} served lately` },
          { value: UPLOAD, label: "A file of mine" },
          ...(traces.data ?? []).map((trace) => ({ value: String(trace.id), label: traceWords(trace) })),
        ]}
      />
      {traffic === RECORD && (
        <Select
          label="Recorded"
          value={range}
          onChange={(value) => setRange(value ?? "15m")}
          allowDeselect={false}
          data={RECORD_RANGES.map((key) => ({ value: key, label: RANGES[key].words }))}
        />
      )}
      {traffic === UPLOAD && <UploadField file={file} onChange={setFile} />}
      {(["Baseline", "Compared with it"] as const).map((label, index) => (
        <Select
          key={label}
          label={label}
          value={[first, second][index] ?? null}
          onChange={(value) => setPair(index === 0 ? [value ?? "", second] : [first, value ?? ""])}
          allowDeselect={false}
          data={choices.map(({ value, label: words }) => ({ value, label: words }))}
        />
      ))}
      <NumberInput
        label="Instances"
        description="Empty: as many as serve now."
        min={1}
        max={64}
        value={instances}
        onChange={(value) => setInstances(typeof value === "number" ? value : "")}
      />
      <ProblemNote error={ask.error ?? traces.error} />
      <div className="form-actions">
        <ActionButton
          className="primary"
          blocked={ask.isPending ? "it is being asked" : blocked}
          onClick={() => ask.mutate()}
        >
          Compare
        </ActionButton>
      </div>
    </div>
  );
}

function UploadField({ file, onChange }: { file: File | null; onChange: (file: File | null) => void }) {
  return (
    <label className="upload">
      <span className="words-title">CSV file</span>
      <span className="caption block">
        Columns arrival, prompt and output tokens, class if you like; or Azure's or BurstGPT's own columns. At
        most 2 MiB and 20,000 rows.
      </span>
      <input
        type="file"
        accept=".csv,.jsonl,text/csv,text/plain"
        onChange={(event) => onChange(event.currentTarget.files?.[0] ?? null)}
      />
      {file && <span className="caption">{count(file.size)} bytes</span>}
    </label>
  );
}

function traceWords(trace: Trace): string {
  return `${trace.name}: ${count(trace.rows)} requests in ${duration(trace.duration_s * 1000)}`;
}

async function traceOf(
  traffic: string,
  given: { pool: string; range: string; file: File | null },
): Promise<number> {
  if (traffic === UPLOAD && given.file) {
    const name = given.file.name.replace(/[^\w .-]/g, "_").slice(0, 100);
    return (await post<Trace>("what-if/traces", { name, content: await given.file.text() })).id;
  }
  if (traffic !== RECORD) return Number(traffic);
  const now = Date.now();
  const range = rangeOf(given.range);
  const name = `${given.pool}, ${RANGES[range].words.toLowerCase()}`;
  const since = sinceOf(range, now);
  const until = new Date(now).toISOString();
  return (await post<Trace>("what-if/traces", { name, pool: given.pool, since, until })).id;
}

interface PolicyChoice {
  value: string;
  label: string;
  asked: object;
}

/** The pool's versions, newest first and the active one in front; then every policy with its defaults. */
function usePolicyChoices(pool: string): PolicyChoice[] {
  const versions = usePolicies(pool).data?.results ?? [];
  const fields = usePolicyFields().data ?? [];
  const field = fields.find((each) => each.path === "policy");
  // What decides unless told otherwise first, the paper's own beside it.
  const first = [String(field?.default ?? ""), "llumnix"];
  const rest = (field?.choices ?? []).filter((name) => !first.includes(name));
  const names = [...first.filter((name) => field?.choices.includes(name)), ...rest];
  const sorted = [...versions].sort((a, b) => Number(b.active ?? false) - Number(a.active ?? false));
  return [
    ...sorted.map((row) => ({
      value: `v${row.version}`,
      label: versionWords(row),
      asked: { version: row.version },
    })),
    ...names.map((name) => ({
      value: name,
      label: `${name}, with its defaults`,
      asked: { name, config: { policy: name } },
    })),
  ];
}

function versionWords(row: PolicyVersion): string {
  return `v${row.version}${row.active ? ", active" : ""}${row.comment ? `: ${row.comment.slice(0, 40)}` : ""}`;
}
