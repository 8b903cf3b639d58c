import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { get } from "../api/client";
import { byRank } from "../lib/fleet";
import { age, capital, count, duration, lasting } from "../lib/format";
import { useShown } from "../live/context";
import { useInstances } from "../live/pool";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { Mark } from "./Mark";

/** Before the first engine serves: what to do, what is there already, and the words used. */
export function FirstStart({ state }: { state: LiveState }) {
  const instances = useInstances();
  const { screenNow: now } = useShown();
  const gateway = [...state.gateways.values()][0];
  const names = byRank(state).map((row) => row.name);
  const classes = names.length > 1 ? `classes ${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : "";
  return (
    <>
      <div>
        <h1 className="headline">No engine serves yet</h1>
        <p className="t2">
          {instances.length
            ? "When the first one reports that it is ready, this page becomes the live overview."
            : "Start one; it joins by itself, and this page becomes the live overview."}
        </p>
      </div>
      <div className="grid columns">
        <section className="card steps">
          <div className="card-head">
            <h2>Three steps to the first token</h2>
          </div>
          <Step
            number={1}
            active
            title="Start an engine"
            text="On this machine. Loading the model takes from seconds to minutes."
          >
            <Command text="make up" />
            <div className="loading-cards">
              {instances.map((instance) => (
                <Loading key={instance.id} instance={instance} now={now} />
              ))}
              <div className="loading-card is-next">The next engine appears here</div>
            </div>
          </Step>
          <Step
            number={2}
            title="Have a key"
            text="The first start printed one, of the tenant demo. A tenant's class decides how soon it is served; each key is shown once."
          >
            <p className="row step-row">
              <Link className="btn" to="/tenants">
                Show the tenants
              </Link>
              {classes && <span className="t3 detail">{classes} exist already</span>}
            </p>
          </Step>
          <Step
            number={3}
            title="Send a request"
            text="Any OpenAI client works. You will see it here while it decodes."
          >
            <Command
              text={`curl ${gateway?.url ?? "http://localhost:8801"}/v1/completions -H "Authorization: Bearer $KEY" --json '{"model": "${instances[0]?.served_model || "MODEL"}", "prompt": "Hello", "stream": true}'`}
            />
          </Step>
        </section>
        <div className="side">
          <Checks state={state} instances={instances} />
          <section className="card card-body">
            <h2 className="words-title">See it full</h2>
            <p className="detail t2">
              Once an engine serves: a load of three tenants and classes, from a second terminal. Ctrl-C ends
              it.
            </p>
            <Command text="make demo" />
          </section>
          <Words />
        </div>
      </div>
    </>
  );
}

interface StepProps {
  number: number;
  active?: boolean;
  title: string;
  text: string;
  children: React.ReactNode;
}

function Step({ number, active, title, text, children }: StepProps) {
  return (
    <div className="step">
      <span className={`step-number ${active ? "is-active" : ""}`}>{number}</span>
      <div className="step-body">
        <h3>{title}</h3>
        <p className="detail t2">{text}</p>
        {children}
      </div>
    </div>
  );
}

function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text).catch(() => undefined);
    setCopied(true);
    setTimeout(() => setCopied(false), 2_000);
  };
  return (
    <div className="command">
      <code>{text}</code>
      <button type="button" className="btn small" onClick={() => void copy()}>
        {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}

function Loading({ instance, now }: { instance: Instance; now: number }) {
  const { heard_at: heard, changed_at: since } = instance;
  return (
    <div className="loading-card">
      <div className="row">
        <span className="strong">{instance.id}</span>
        <span className="push caption">{heard === null ? "no report yet" : `${age(now - heard)} ago`}</span>
      </div>
      <div className="detail t2">
        {capital(instance.state ?? instance.row_state ?? "unknown")}
        {since === null ? "" : ` for ${lasting(now - since)}`}
        {instance.served_model ? ` · ${instance.served_model}` : ""}
      </div>
      {instance.cause && <div className="detail t3">{instance.cause}</div>}
    </div>
  );
}

interface Ready {
  database: string;
  redis: string;
}

function Checks({ state, instances }: { state: LiveState; instances: readonly Instance[] }) {
  const health = useQuery({
    queryKey: ["health"],
    queryFn: () => get<Ready>("health"),
    refetchInterval: 3_000,
  });
  const loop = state.loop;
  const rows: [boolean | null, string, string][] = [
    answered("Database", health.data?.database),
    answered("Redis", health.data?.redis),
    [
      state.gateways.size > 0,
      "Gateway",
      state.gateways.size
        ? [...state.gateways.values()].map((item) => item.url).join(", ")
        : "none has reported",
    ],
    [
      Boolean(loop?.leader),
      "Rebalancing loop",
      loop?.leader ? `leads, every ${duration(loop.interval_ms)}` : "nobody leads yet",
    ],
    [null, "Engines", instances.length ? `${count(instances.length)} loading, 0 serving` : "none yet"],
  ];
  return (
    <section className="card">
      <div className="card-head">
        <h2>Checks</h2>
        {health.dataUpdatedAt > 0 && (
          <span className="aside">{age(Math.max(0, (Date.now() - health.dataUpdatedAt) / 1000))} ago</span>
        )}
      </div>
      <ul className="checks">
        {rows.map(([good, name, detail]) => (
          <li key={name}>
            <Mark shape={good === null ? "moving" : good ? "good" : "stopped"} /> <span>{name}</span>
            <span className="t3 detail">{detail}</span>
          </li>
        ))}
      </ul>
      <p className="card-body detail t3">
        Something wrong? <code className="mono">.venv/bin/python manage.py doctor</code> names what fails and
        what to do.
      </p>
    </section>
  );
}

function answered(name: string, said: string | undefined): [boolean | null, string, string] {
  if (said === undefined) return [null, name, "asking…"];
  return said === "ok" ? [true, name, "answers"] : [false, name, said];
}

const WORDS = [
  ["block", "the unit of KV memory; a request holds whole blocks"],
  ["freeness", "decode steps until memory ends; below 0 is overloaded"],
  ["headroom", "memory kept from other classes for a class that runs there"],
  ["downtime", "the pause that a move adds to one stream"],
] as const;

function Words() {
  return (
    <section className="card card-body">
      <h2 className="words-title">Words used here</h2>
      <dl className="facts words">
        {WORDS.map(([word, meaning]) => (
          <div key={word}>
            <dt>{word}</dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
