import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { get } from "../api/client";
import { count, duration } from "../lib/format";
import { useInstances } from "../live/pool";
import type { LiveState } from "../live/reducer";
import type { Instance } from "../live/types";
import { Mark } from "./Mark";

/** Before the first engine serves: what to do, what is there already, and the words used. */
export function FirstStart({ state }: { state: LiveState }) {
  const instances = useInstances();
  const gateway = [...state.gateways.values()][0];
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
            <h2>Two steps to the first token</h2>
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
                <Loading key={instance.id} instance={instance} />
              ))}
              <div className="loading-card is-next">The next engine appears here</div>
            </div>
          </Step>
          <Step
            number={2}
            title="Send a request"
            text="Any OpenAI client works, with the tenant key printed at the first start."
          >
            <Command
              text={`curl ${gateway?.url ?? "http://localhost:8801"}/v1/completions -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '{"model": "${instances[0]?.served_model || "MODEL"}", "prompt": "Hello", "max_tokens": 64, "stream": true}'`}
            />
          </Step>
        </section>
        <div className="side">
          <Checks state={state} instances={instances} />
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

function Loading({ instance }: { instance: Instance }) {
  return (
    <div className="loading-card">
      <div className="strong">{instance.id}</div>
      <div className="detail t2">
        {instance.state ?? instance.row_state ?? "unknown"}
        {instance.cause ? ` · ${instance.cause}` : ""}
      </div>
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
    [health.data ? health.data.database === "ok" : null, "Database", health.data?.database ?? "–"],
    [health.data ? health.data.redis === "ok" : null, "Redis", health.data?.redis ?? "–"],
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
      </div>
      <ul className="checks">
        {rows.map(([good, name, detail]) => (
          <li key={name}>
            <Mark shape={good === null ? "moving" : good ? "good" : "stopped"} /> <span>{name}</span>
            <span className="t3 detail">{detail}</span>
          </li>
        ))}
      </ul>
    </section>
  );
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
