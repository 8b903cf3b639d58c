import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { parse, stringify } from "yaml";
import { post } from "../../api/client";
import {
  activatePolicy,
  type Config,
  type PolicyVersion,
  type Preview,
  useCheck,
  usePolicies,
  usePolicyFields,
} from "../../api/scheduling";
import { ActionButton } from "../../components/ActionButton";
import { Segmented } from "../../components/Choices";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { ProblemNote } from "../../components/dialogs/Problem";
import { Mark } from "../../components/Mark";
import { ActivateDialog } from "../../components/scheduling/ActivateDialog";
import { ActiveUntil } from "../../components/scheduling/ActiveUntil";
import { PolicyForm } from "../../components/scheduling/PolicyForm";
import { PreviewCard } from "../../components/scheduling/PreviewCard";
import { plural } from "../../lib/format";
import { changedPaths, diffLines } from "../../lib/policyDraft";
import { useUrlState } from "../../lib/urlState";
import { useShown } from "../../live/context";
import { useMe } from "../../session";

type View = "form" | "yaml" | "diff";

/** The active policy, a draft of the next one, and what it would do. */
export function Policy({ pool }: { pool: string }) {
  const versions = usePolicies(pool);
  const active = versions.data?.results.find((row) => row.active) ?? null;
  const complete = useCheck(active?.config ?? {}, versions.isSuccess);
  if (versions.error || complete.error) return <ProblemNote error={versions.error ?? complete.error} />;
  if (!complete.data?.config) return <div className="skeleton" style={{ height: 420 }} />;
  const newest = Math.max(0, ...(versions.data?.results ?? []).map((row) => row.version));
  return (
    <Editor key={active?.id ?? 0} pool={pool} active={active} newest={newest} base={complete.data.config} />
  );
}

interface EditorProps {
  pool: string;
  active: PolicyVersion | null;
  /** The highest version that exists. */
  newest: number;
  base: Config;
}

function Editor({ pool, active, newest, base }: EditorProps) {
  const { now } = useShown();
  const me = useMe();
  const open = useDialog();
  const fields = usePolicyFields();
  const [view, setView] = useUrlState<View>("view", "form");
  const [draft, setDraft] = useState<Config>(base);
  const [text, setText] = useState<string | null>(null);
  const check = useCheck(draft, true);
  const preview = useMutation({
    mutationFn: () => post<Preview>("policies/preview", { pool, config: draft }),
  });
  const changed = changedPaths(base, draft);
  const broken = text !== null && yamlProblem(text);
  const problems = check.data?.problems ?? [];
  const blocked = !changed.length
    ? "nothing is changed"
    : broken || problems.length
      ? "the draft is not valid"
      : "";
  const version = active ? `v${active.version}` : "the defaults";
  return (
    <div className="grid split">
      <section className="card" aria-label="policy">
        <div className="card-head">
          <h2>
            {pool}: {version}
            {changed.length ? " → draft" : ""}
          </h2>
          <span className="t3">
            {changed.length ? plural(changed.length, "change") : "active, unchanged"}
            {changed.length > 0 && !blocked && (
              <>
                {" "}
                · <Mark shape="good" size={12} /> valid
              </>
            )}
          </span>
          <span className="aside">
            <Segmented
              label="Edit as"
              value={view}
              options={[
                ["form", "Form"],
                ["yaml", "YAML"],
                ["diff", "Diff"],
              ]}
              onChange={setView}
            />
          </span>
        </div>
        {active && <ActiveUntil active={active} now={now} />}
        <div className="card-body form">
          {view === "form" && (
            <PolicyForm
              active={base}
              draft={draft}
              fields={fields.data ?? []}
              problems={problems}
              onChange={(next) => {
                setDraft(next);
                setText(null);
              }}
              disabled={!me.may_act}
            />
          )}
          {view === "yaml" && (
            <textarea
              className="yaml"
              aria-label="Policy as YAML"
              spellCheck={false}
              readOnly={!me.may_act}
              value={text ?? stringify(draft)}
              onChange={(event) => {
                setText(event.currentTarget.value);
                const next = fromYaml(event.currentTarget.value);
                if (next) setDraft(next);
              }}
            />
          )}
          {view === "diff" && <Diff before={base} after={draft} />}
          {broken && <ProblemLine text={broken} />}
          {view !== "form" &&
            problems.map((problem) => (
              <ProblemLine key={problem.field} text={`${problem.field}: ${problem.message}`} />
            ))}
          <ProblemNote error={check.error ?? preview.error} />
          <div className="form-actions">
            <button
              type="button"
              className="btn"
              disabled={!changed.length && text === null}
              onClick={() => {
                setDraft(base);
                setText(null);
              }}
            >
              Discard
            </button>
            <button
              type="button"
              className="btn"
              disabled={blocked !== "" || preview.isPending}
              onClick={() => preview.mutate()}
            >
              {preview.isPending ? "Previewing…" : "Preview on the live fleet"}
            </button>
            <ActionButton
              className="primary"
              blocked={blocked}
              onClick={() =>
                open({
                  kind: "form",
                  content: (close) => (
                    <ActivateDialog
                      title={`Activate a new policy of ${pool}?`}
                      name={`v${newest + 1}`}
                      before={version}
                      pool={pool}
                      run={(reason, forS) => saveAndActivate(pool, draft, reason, forS)}
                      onClose={close}
                    >
                      <Diff before={base} after={draft} />
                    </ActivateDialog>
                  ),
                })
              }
            >
              Activate…
            </ActionButton>
          </div>
        </div>
      </section>
      <div className="side">
        {preview.data ? (
          <PreviewCard preview={preview.data} now={now} />
        ) : (
          <section className="card card-body">
            <h2 className="words-title">Preview before you activate</h2>
            <p className="t2">
              The draft is tried on the fleet as it is at this moment, by the same code that decides: what it
              would start in its first tick, and how free each instance would count. Nothing is moved.
            </p>
          </section>
        )}
      </div>
    </div>
  );
}

async function saveAndActivate(
  pool: string,
  config: Config,
  reason: string,
  forS: number | null,
): Promise<void> {
  const made = await post<PolicyVersion>("policies", { pool, config, change_reason: reason });
  await activatePolicy(made.id, reason, forS);
}

function fromYaml(text: string): Config | null {
  try {
    const value: unknown = parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Config) : null;
  } catch {
    return null;
  }
}

function yamlProblem(text: string): string {
  try {
    parse(text);
    return fromYaml(text) ? "" : "The policy must be a mapping of names to values.";
  } catch (error) {
    return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
  }
}

function ProblemLine({ text }: { text: string }) {
  return (
    <div className="note critical" role="alert">
      <Mark shape="hurt" /> <span>{text}</span>
    </div>
  );
}

export function Diff({ before, after }: { before: Config; after: Config }) {
  const lines = diffLines(before, after);
  if (lines.length === 0) return <p className="t2">No difference.</p>;
  return (
    <div className="diff">
      {lines.map((line, index) => (
        <div key={index} className={line.kind === "out" ? "is-out" : line.kind === "in" ? "is-in" : "t3"}>
          {{ out: "- ", in: "+ ", same: "  " }[line.kind]}
          {line.text}
        </div>
      ))}
    </div>
  );
}
