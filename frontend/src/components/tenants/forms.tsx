import { MultiSelect, NumberInput, Select, TextInput } from "@mantine/core";
import { useState } from "react";
import { ApiError, post } from "../../api/client";
import type { ClassRow, KeyIssued, KeyRow, LimitRow, TenantRow } from "../../api/shapes";
import { FormDialog } from "../dialogs/FormDialog";
import { ReasonField } from "../dialogs/Reason";
import { OnceShown } from "./OnceShown";

export function fieldError(error: unknown, name: string): string | undefined {
  return error instanceof ApiError ? error.field(name) : undefined;
}

export function NewTenant({ classes, onClose }: { classes: readonly ClassRow[]; onClose: () => void }) {
  const [slug, setSlug] = useState("");
  const [sloClass, setClass] = useState(classes[1]?.name ?? classes[0]?.name ?? "standard");
  const [allowed, setAllowed] = useState<string[]>([]);
  const [reason, setReason] = useState("");
  const names = classes.map((row) => row.name);
  return (
    <FormDialog
      title="Add a tenant"
      verb={slug ? `Add ${slug}` : "Add the tenant"}
      disabled={slug === ""}
      onClose={onClose}
      run={() =>
        post<TenantRow>("tenants", {
          slug,
          slo_class: sloClass,
          allowed_classes: allowed,
          change_reason: reason,
        })
      }
      done={(row) => `${row.slug} exists; give it a key next.`}
      touches={["tenants"]}
    >
      {(error) => (
        <>
          <TextInput
            label="Name"
            description="lower-case letters, digits, hyphens"
            value={slug}
            onChange={(event) => setSlug(event.currentTarget.value)}
            error={fieldError(error, "slug")}
            data-autofocus
          />
          <Select
            label="Class"
            description="for requests that name none"
            data={names}
            value={sloClass}
            onChange={(value) => setClass(value ?? "standard")}
            allowDeselect={false}
            error={fieldError(error, "slo_class")}
          />
          <MultiSelect
            label="May also ask for"
            data={names.filter((name) => name !== sloClass)}
            value={allowed}
            onChange={setAllowed}
            error={fieldError(error, "allowed_classes")}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

export function NewKey({ tenant, onClose }: { tenant: string; onClose: () => void }) {
  const [name, setName] = useState("");
  const [days, setDays] = useState("90");
  const [networks, setNetworks] = useState("");
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={`A key for ${tenant}`}
      verb="Make the key"
      disabled={name === ""}
      onClose={onClose}
      run={() =>
        post<KeyIssued>(`tenants/${tenant}/keys`, {
          name,
          change_reason: reason,
          networks: networks.split(/[\s,]+/).filter(Boolean),
          expires_at:
            days === "never" ? null : new Date(Date.now() + Number(days) * 86_400_000).toISOString(),
        })
      }
      done={null}
      after={(row) => <OnceShown what="key" value={row.key ?? ""} onClose={onClose} />}
      touches={["tenants"]}
    >
      {(error) => (
        <>
          <TextInput
            label="What for"
            placeholder="production, laptop of Ada …"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={fieldError(error, "name")}
            data-autofocus
          />
          <Select
            label="Expires"
            data={[
              { value: "7", label: "in 7 days" },
              { value: "90", label: "in 90 days" },
              { value: "365", label: "in a year" },
              { value: "never", label: "never" },
            ]}
            value={days}
            onChange={(value) => setDays(value ?? "90")}
            allowDeselect={false}
            error={fieldError(error, "expires_at")}
          />
          <TextInput
            label="Only from these networks"
            description="CIDR, separated by commas; empty: from anywhere"
            value={networks}
            onChange={(event) => setNetworks(event.currentTarget.value)}
            error={fieldError(error, "networks")}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

export function RotateKey({ row, onClose }: { row: KeyRow; onClose: () => void }) {
  const [hours, setHours] = useState(24);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={`Rotate ${row.prefix}…`}
      verb="Make its successor"
      onClose={onClose}
      run={() =>
        post<KeyIssued>(`tenants/${row.tenant}/keys/${row.id}/rotate`, {
          overlap_hours: hours,
          change_reason: reason,
        })
      }
      done={null}
      after={(made) => <OnceShown what="key" value={made.key ?? ""} onClose={onClose} />}
      touches={["tenants"]}
    >
      {(error) => (
        <>
          <p className="t2">
            A new key with the same rights; the old one goes on for the overlap, then it is refused.
          </p>
          <NumberInput
            label="Overlap"
            description="hours"
            min={0}
            max={720}
            value={hours}
            onChange={(value) => setHours(Number(value))}
            error={fieldError(error, "overlap_hours")}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

const LIMITS = [
  ["requests_per_minute", "Requests per minute"],
  ["tokens_per_minute", "Tokens per minute"],
  ["concurrent_requests", "Concurrent requests"],
  ["queued_requests", "Queued requests"],
  ["queue_seconds", "Longest wait in the queue, s"],
] as const;

export function EditLimits({
  tenant,
  row,
  classes,
  onClose,
}: {
  tenant: string;
  row: LimitRow | undefined;
  classes: readonly string[];
  onClose: () => void;
}) {
  const [sloClass, setClass] = useState(row?.slo_class ?? "");
  const [values, setValues] = useState<Record<string, number | null>>(
    Object.fromEntries(LIMITS.map(([name]) => [name, row?.[name] ?? null])),
  );
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={`Limits of ${tenant}`}
      verb="Set the limits"
      onClose={onClose}
      run={() =>
        post(`tenants/${tenant}/limits`, {
          ...values,
          slo_class: sloClass || null,
          ...(row?.key ? { key: row.key } : {}),
          change_reason: reason,
        })
      }
      done={() => `${tenant} has new limits; they count within seconds.`}
      touches={["tenants"]}
    >
      {(error) => (
        <>
          <Select
            label="In class"
            data={[
              { value: "", label: "all classes together" },
              ...classes.map((name) => ({ value: name, label: name })),
            ]}
            value={sloClass}
            onChange={(value) => setClass(value ?? "")}
            allowDeselect={false}
            disabled={row !== undefined}
          />
          <div className="two-fields">
            {LIMITS.map(([name, label]) => (
              <NumberInput
                key={name}
                label={label}
                placeholder="no limit"
                min={0}
                value={values[name] ?? ""}
                onChange={(value) =>
                  setValues((before) => ({ ...before, [name]: value === "" ? null : Number(value) }))
                }
                error={fieldError(error, name)}
              />
            ))}
          </div>
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

const BOOSTS = [
  ["15", "15 min"],
  ["60", "1 h"],
  ["480", "8 h"],
  ["1440", "1 day"],
  ["10080", "a week"],
] as const;

export function NewBoost({
  tenants,
  tenant,
  classes,
  onClose,
}: {
  tenants: readonly string[];
  tenant: string;
  classes: readonly ClassRow[];
  onClose: () => void;
}) {
  const [slug, setSlug] = useState(tenant);
  const [sloClass, setClass] = useState(classes[0]?.name ?? "");
  const [minutes, setMinutes] = useState("60");
  const [running, setRunning] = useState(true);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title="Boost a tenant"
      verb={
        slug
          ? `Serve ${slug} as ${sloClass} for ${BOOSTS.find(([value]) => value === minutes)?.[1]}`
          : "Boost"
      }
      disabled={!slug || !sloClass}
      onClose={onClose}
      run={() =>
        post(`tenants/${slug}/boosts`, {
          slo_class: sloClass,
          expires_at: new Date(Date.now() + Number(minutes) * 60_000).toISOString(),
          apply_to_running: running,
          change_reason: reason,
        })
      }
      done={() => `${slug} is served as ${sloClass} for now.`}
      touches={["tenants"]}
    >
      {(error) => (
        <>
          <p className="t2">
            A better class for a while, above what the tenant may ask for. It ends by itself.
          </p>
          <Select
            label="Tenant"
            data={[...tenants]}
            value={slug || null}
            onChange={(value) => setSlug(value ?? "")}
            searchable
            error={fieldError(error, "tenant")}
          />
          <Select
            label="Class"
            data={classes.map((row) => row.name)}
            value={sloClass}
            onChange={(value) => setClass(value ?? "")}
            allowDeselect={false}
            error={fieldError(error, "slo_class")}
          />
          <Select
            label="For"
            data={BOOSTS.map(([value, label]) => ({ value, label }))}
            value={minutes}
            onChange={(value) => setMinutes(value ?? "60")}
            allowDeselect={false}
            error={fieldError(error, "expires_at")}
          />
          <label className="row">
            <input
              type="checkbox"
              checked={running}
              onChange={(event) => setRunning(event.currentTarget.checked)}
            />
            also for requests that run now
          </label>
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

export function AddMember({ tenant, onClose }: { tenant: string; onClose: () => void }) {
  const [username, setUsername] = useState("");
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={`A member of ${tenant}`}
      verb={username ? `Let ${username} manage ${tenant}` : "Add"}
      disabled={username === ""}
      onClose={onClose}
      run={() => post(`tenants/${tenant}/members`, { username, change_reason: reason })}
      done={() => `${username} may manage ${tenant}.`}
      touches={["tenants", "people"]}
    >
      {(error) => (
        <>
          <p className="t2">
            A tenant's owner sees and edits this tenant alone, within the limits that admins set.
          </p>
          <TextInput
            label="User"
            value={username}
            onChange={(event) => setUsername(event.currentTarget.value)}
            error={fieldError(error, "username")}
            data-autofocus
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
