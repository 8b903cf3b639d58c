import { MultiSelect, NumberInput, Select, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { get, getVersioned, type Page, patch, post, remove } from "../../api/client";
import type { AlertRule, Webhook, WebhookCreated } from "../../api/shapes";
import { ActionButton } from "../../components/ActionButton";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { FormDialog } from "../../components/dialogs/FormDialog";
import { ProblemNote } from "../../components/dialogs/Problem";
import { ReasonField } from "../../components/dialogs/Reason";
import { Mark } from "../../components/Mark";
import { useSay } from "../../components/Notices";
import { fieldError } from "../../components/tenants/forms";
import { OnceShown } from "../../components/tenants/OnceShown";
import { age, count, percent } from "../../lib/format";

const SEVERITIES = ["info", "warning", "critical"];

/** What raises an alert, and who is told. */
export function Rules() {
  return (
    <div className="grid split">
      <RuleCard />
      <WebhookCard />
    </div>
  );
}

function RuleCard() {
  const open = useDialog();
  const rules = useQuery({
    queryKey: ["alerts", "rules"],
    queryFn: async () => (await get<Page<AlertRule>>("alerts/rules?limit=100")).results,
  });
  return (
    <section className="card" aria-label="alert rules">
      <div className="card-head">
        <h2>Rules</h2>
        <span className="t3">what is watched, and for how long it must last</span>
      </div>
      <ProblemNote error={rules.error} />
      <ul className="class-list">
        {(rules.data ?? []).map((rule) => (
          <li key={rule.name} className={rule.enabled === false ? "t3" : ""}>
            <div className="row">
              <Mark shape={rule.severity === "critical" ? "hurt" : "risk"} size={12} /> <b>{rule.name}</b>
              <span className="detail t2">
                {rule.kind.replaceAll("_", " ")}, {rule.for_s ? `for ${age(rule.for_s)}` : "at once"}
                {rule.enabled === false ? ", off" : ""}
              </span>
              <ActionButton
                className="small quiet push"
                onClick={() =>
                  open({ kind: "form", content: (close) => <EditRule rule={rule} onClose={close} /> })
                }
              >
                Change…
              </ActionButton>
            </div>
            <div className="detail t3">
              {rule.description}{" "}
              {Object.entries(rule.parameters as Record<string, number>)
                .map(([name, value]) => bound(name, value))
                .join(", ")}
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** A bound with its unit: "share 10 %", "short 5 min", "per minute 60". */
function bound(name: string, value: number): string {
  const words = name.split("_");
  const last = words.at(-1) ?? name;
  const head = words.slice(0, -1).join(" ");
  if (last === "share") return `${name.replaceAll("_", " ")} ${percent(value, 0)}`;
  if (last === "seconds") return `${head || "above"} ${age(value)}`;
  if (last === "minutes") return `${head || "above"} ${age(value * 60)}`;
  return `${name.replaceAll("_", " ")} ${count(value)}`;
}

function EditRule({ rule, onClose }: { rule: AlertRule; onClose: () => void }) {
  const [severity, setSeverity] = useState<string>(rule.severity ?? "warning");
  const [forS, setForS] = useState(rule.for_s ?? 0);
  const [enabled, setEnabled] = useState(rule.enabled !== false);
  const [parameters, setParameters] = useState(rule.parameters as Record<string, number>);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={rule.name}
      verb="Change the rule"
      onClose={onClose}
      run={async () => {
        const found = await getVersioned<AlertRule>(`alerts/rules/${rule.name}`);
        const body = { severity, for_s: forS, enabled, parameters, change_reason: reason };
        return patch<AlertRule>(`alerts/rules/${rule.name}`, body, found.etag);
      }}
      done={() => `${rule.name} is changed; it counts from the next look on.`}
      touches={["alerts"]}
    >
      {(error) => (
        <>
          <div className="two-fields">
            <Select
              label="Severity"
              data={SEVERITIES}
              value={severity}
              onChange={(value) => setSeverity(value ?? "warning")}
              allowDeselect={false}
            />
            <NumberInput
              label="Must last, s"
              min={0}
              value={forS}
              onChange={(value) => setForS(Number(value))}
              error={fieldError(error, "for_s")}
            />
            {Object.entries(parameters).map(([name, value]) => (
              <NumberInput
                key={name}
                label={name.replaceAll("_", " ")}
                value={value}
                onChange={(next) => setParameters((all) => ({ ...all, [name]: Number(next) }))}
                error={fieldError(error, `parameters.${name}`)}
              />
            ))}
          </div>
          <label className="row">
            <input
              type="checkbox"
              checked={enabled}
              onChange={(event) => setEnabled(event.currentTarget.checked)}
            />{" "}
            watch this
          </label>
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

function WebhookCard() {
  const open = useDialog();
  const say = useSay();
  const hooks = useQuery({
    queryKey: ["webhooks"],
    queryFn: async () => (await get<Page<Webhook>>("webhooks?limit=100")).results,
  });
  return (
    <section className="card" aria-label="webhooks">
      <div className="card-head">
        <h2>Webhooks</h2>
        <span className="aside">
          <ActionButton
            className="small"
            onClick={() => open({ kind: "form", content: (close) => <NewWebhook onClose={close} /> })}
          >
            Add…
          </ActionButton>
        </span>
      </div>
      <ProblemNote error={hooks.error} />
      {hooks.data?.length === 0 && (
        <p className="empty">Nobody is told yet: alerts show on these pages alone.</p>
      )}
      <ul className="class-list">
        {(hooks.data ?? []).map((hook) => (
          <li key={hook.id} className={hook.enabled === false ? "t3" : ""}>
            <div className="row">
              <b>{hook.name}</b> <span className="mono">{hook.url}</span>
              <span className="push row">
                <ActionButton
                  className="small quiet"
                  onClick={() =>
                    void post(`webhooks/${hook.id}/test`).then(
                      () => say({ kind: "good", text: `A test event is on its way to ${hook.name}.` }),
                      (error: Error) => say({ kind: "hurt", text: error.message }),
                    )
                  }
                >
                  Test
                </ActionButton>
                <ActionButton
                  className="small quiet danger"
                  onClick={() =>
                    open({
                      kind: "confirm",
                      title: `Remove ${hook.name}?`,
                      text: "Nothing is sent there any more; its deliveries are forgotten.",
                      verb: "Remove the webhook",
                      danger: true,
                      run: () => remove(`webhooks/${hook.id}`),
                      done: `${hook.name} is removed.`,
                      touches: ["webhooks"],
                    })
                  }
                >
                  Remove…
                </ActionButton>
              </span>
            </div>
            <div className="detail t3">
              {hook.events.join(", ") || "all events"}, from {hook.least_severity} on
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}

const EVENTS = ["alert.firing", "alert.resolved"];

function NewWebhook({ onClose }: { onClose: () => void }) {
  const [name, setName] = useState("");
  const [url, setUrl] = useState("https://");
  const [events, setEvents] = useState<string[]>(EVENTS);
  const [least, setLeast] = useState("warning");
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title="Add a webhook"
      verb="Add the webhook"
      disabled={name === "" || url.length < 10}
      onClose={onClose}
      run={() =>
        post<WebhookCreated>("webhooks", { name, url, events, least_severity: least, change_reason: reason })
      }
      done={null}
      after={(row) => <OnceShown what="secret" value={row.secret ?? ""} onClose={onClose} />}
      touches={["webhooks"]}
    >
      {(error) => (
        <>
          <p className="t2">
            Each event is signed with a secret of this webhook; private addresses are refused.
          </p>
          <TextInput
            label="Name"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={fieldError(error, "name")}
            data-autofocus
          />
          <TextInput
            label="URL"
            value={url}
            onChange={(event) => setUrl(event.currentTarget.value)}
            error={fieldError(error, "url")}
          />
          <MultiSelect
            label="Events"
            data={EVENTS}
            value={events}
            onChange={setEvents}
            error={fieldError(error, "events")}
          />
          <Select
            label="From severity"
            data={SEVERITIES}
            value={least}
            onChange={(value) => setLeast(value ?? "warning")}
            allowDeselect={false}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
