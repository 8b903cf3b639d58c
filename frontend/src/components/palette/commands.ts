// What the palette offers for a text. Pure.

import { isDraining } from "../../lib/fleet";
import { PLACES, SETTINGS } from "../../lib/places";
import type { Instance } from "../../live/types";
import type { DialogCall } from "../dialogs/DialogProvider";

export type Deed =
  | { kind: "go"; to: string }
  | { kind: "dialog"; call: DialogCall }
  | { kind: "pause" }
  | { kind: "theme"; scheme: "auto" | "light" | "dark" };

export interface Command {
  id: string;
  /** What is done, as a verb with its object. */
  words: string;
  hint: string;
  deed: Deed;
  /** Needs the right to act. */
  acts: boolean;
}

interface Known {
  instances: readonly Instance[];
  tenants: readonly string[];
  mayAct: boolean;
}

const SHOWN = 12;

export function commandsFor(text: string, known: Known): Command[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [
    ...goes(),
    ...onInstances(known),
    ...onTenants(known),
    ...inner(),
    ...screen(),
    ...lookUp(text.trim()),
  ];
  return all
    .filter((command) => known.mayAct || !command.acts)
    .filter((command) => words.every((word) => command.words.toLowerCase().includes(word)))
    .slice(0, SHOWN);
}

function goes(): Command[] {
  return [...PLACES, SETTINGS].map((place) => ({
    id: `go${place.to}`,
    words: `Go to ${place.name}`,
    hint: `g ${place.key}`,
    deed: { kind: "go", to: place.to },
    acts: false,
  }));
}

/** Pages behind tabs, by what one looks for. */
const INNER: readonly (readonly [string, string])[] = [
  ["/scheduling/policy", "Go to the policy"],
  ["/scheduling/versions", "Go to versions of the policy, roll back"],
  ["/scheduling/what-if", "Go to what if: compare two policies"],
  ["/scheduling/autoscaling", "Go to autoscaling"],
  ["/requests?view=finished", "Go to finished requests"],
  ["/migrations?by=pair", "Go to migrations by pair"],
  ["/settings/people", "Go to people"],
  ["/settings/rules", "Go to alert rules and webhooks"],
];

function inner(): Command[] {
  return INNER.map(([to, words]) => command(`go${to}`, words, "page", { kind: "go", to }));
}

function onInstances({ instances }: Known): Command[] {
  return instances.flatMap((item): Command[] => {
    const kind = isDraining(item) ? "undrain" : "drain";
    return [
      command(`open-${item.id}`, `Open ${item.id}`, "instance", { kind: "go", to: `/instances/${item.id}` }),
      act(
        `${kind}-${item.id}`,
        `${kind === "drain" ? "Drain" : "Undrain"} ${item.id}…`,
        { kind, instanceId: item.id },
        "instance",
      ),
      act(
        `migrate-${item.id}`,
        `Migrate a request from ${item.id}…`,
        { kind: "migrate", sourceId: item.id },
        "instance",
      ),
    ];
  });
}

function onTenants({ tenants }: Known): Command[] {
  return tenants.flatMap((slug): Command[] => [
    command(`tenant-${slug}`, `Open tenant ${slug}`, "tenant", { kind: "go", to: `/tenants/${slug}` }),
    {
      ...command(`class-${slug}`, `Set tenant ${slug} to another class…`, "tenant", {
        kind: "go",
        to: `/tenants/${slug}?do=class`,
      }),
      acts: true,
    },
    command(`requests-${slug}`, `Show requests of ${slug}`, "requests", {
      kind: "go",
      to: `/requests?tenant=${slug}`,
    }),
  ]);
}

function screen(): Command[] {
  return [
    command("pause", "Pause or resume the screen", "p", { kind: "pause" }),
    command("dark", "Use the dark theme", "theme", { kind: "theme", scheme: "dark" }),
    command("light", "Use the light theme", "theme", { kind: "theme", scheme: "light" }),
    command("auto", "Use the system's theme", "theme", { kind: "theme", scheme: "auto" }),
  ];
}

/** An id that was pasted: its request or its move. */
function lookUp(text: string): Command[] {
  if (!/^[\w.:-]{6,}$/.test(text)) return [];
  return [
    command("request", `Open request ${text}`, "by its id", { kind: "go", to: `/requests/${text}` }),
    command("move", `Open move ${text}`, "by its id", { kind: "go", to: `/migrations/${text}` }),
  ];
}

function command(id: string, words: string, hint: string, deed: Deed): Command {
  return { id, words, hint, deed, acts: false };
}

function act(id: string, words: string, call: DialogCall, hint: string): Command {
  return { id, words, hint, deed: { kind: "dialog", call }, acts: true };
}
