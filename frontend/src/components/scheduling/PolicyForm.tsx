import type { Config, PolicyField, PolicyProblem } from "../../api/scheduling";
import { count } from "../../lib/format";
import { flatten, groupOf, type Scalar, withValue } from "../../lib/policyDraft";

interface FormProps {
  active: Config;
  draft: Config;
  fields: readonly PolicyField[];
  problems: readonly PolicyProblem[];
  onChange: (draft: Config) => void;
  disabled: boolean;
}

/** Every number of the policy with its meaning and range, group by group. */
export function PolicyForm({ active, draft, fields, problems, onChange, disabled }: FormProps) {
  const before = new Map(flatten(active));
  const known = new Map(fields.map((field) => [field.path, field]));
  const groups = new Map<string, [string, Scalar][]>();
  for (const [path, value] of flatten(draft)) {
    groups.set(groupOf(path), [...(groups.get(groupOf(path)) ?? []), [path, value]]);
  }
  return (
    <div className="form">
      {[...groups].map(([group, rows]) => (
        <fieldset key={group} className="policy-group" disabled={disabled}>
          <legend>{group ? group.replaceAll("_", " ") : "policy"}</legend>
          {rows.map(([path, value]) => (
            <FieldRow
              key={path}
              path={path}
              value={value}
              before={before.get(path)}
              field={known.get(path)}
              problem={problems.find((each) => each.field === path)?.message}
              onChange={(next) => onChange(withValue(draft, path, next))}
            />
          ))}
        </fieldset>
      ))}
    </div>
  );
}

/** Small bounds with their decimals, large ones with separators. */
function range(value: number): string {
  return Number.isInteger(value) ? count(value) : String(value);
}

interface RowProps {
  path: string;
  value: Scalar;
  before: Scalar | undefined;
  field: PolicyField | undefined;
  problem: string | undefined;
  onChange: (value: Scalar) => void;
}

function FieldRow({ path, value, before, field, problem, onChange }: RowProps) {
  const id = `policy-${path}`;
  const changed = before !== value;
  return (
    <div className={`policy-field ${changed ? "is-changed" : ""}`}>
      <label htmlFor={id}>
        {path.slice(groupOf(path) ? groupOf(path).length + 1 : 0).replaceAll("_", " ")}
        {changed && <s className="t3"> {String(before ?? "–")}</s>}
        <span className="caption block">
          {field?.meaning.replaceAll("`", "")}
          {field &&
            field.low !== null &&
            field.high !== null &&
            ` ${range(field.low)} to ${range(field.high)}.`}
        </span>
      </label>
      <Input id={id} value={value} field={field} onChange={onChange} />
      {problem && <span className="complaint">{problem}</span>}
    </div>
  );
}

function Input({
  id,
  value,
  field,
  onChange,
}: {
  id: string;
  value: Scalar;
  field: PolicyField | undefined;
  onChange: (value: Scalar) => void;
}) {
  if (field?.choices.length) {
    return (
      <select
        id={id}
        className="field"
        value={String(value)}
        onChange={(event) => onChange(event.currentTarget.value)}
      >
        {field.choices.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    );
  }
  if (typeof value === "boolean" || (value === null && field?.kind === "flag")) {
    const options = field?.nullable ? ["as the policy says", "yes", "no"] : ["yes", "no"];
    const shown = value === null ? "as the policy says" : value ? "yes" : "no";
    return (
      <select
        id={id}
        className="field"
        value={shown}
        onChange={(event) => onChange({ yes: true, no: false }[event.currentTarget.value] ?? null)}
      >
        {options.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    );
  }
  return (
    <input
      id={id}
      className="field"
      inputMode="decimal"
      defaultValue={value === null ? "" : String(value)}
      key={String(value)}
      onBlur={(event) => onChange(parsed(event.currentTarget.value, value))}
      onKeyDown={(event) => {
        if (event.key === "Enter") onChange(parsed(event.currentTarget.value, value));
      }}
    />
  );
}

/** A number where one was; what is none stays as it was typed, and the server says what is wrong with it. */
function parsed(text: string, before: Scalar): Scalar {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  const number = Number(trimmed);
  return typeof before === "string" || Number.isNaN(number) ? trimmed : number;
}
