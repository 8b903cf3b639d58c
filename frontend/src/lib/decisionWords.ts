// What a decision says, in words. Pure.

import type { Decision } from "../api/scheduling";
import { count, plural } from "./format";

const RULES: Record<string, string> = {
  load: "overload",
  preempted: "pre-empted requests",
  drain: "drain",
  hole: "a waiting request",
  headroom: "room for a higher class",
};

const RULE_TEXTS: Record<string, string> = {
  load: "An instance whose freeness is below the source threshold gives work away; the one with the least is paired with the one that has the most, if that is above the destination threshold.",
  preempted: "An instance with pre-empted requests gives some away: their memory is lost there in any case.",
  drain:
    "A draining instance counts as full without end: everything on it leaves, to wherever there is room.",
  hole: "A request has waited long: memory is made free for it where that costs least.",
  headroom:
    "An instance hosts a class above the load that the class may be given neighbours at: others leave, the class itself stays.",
};

/** The rule as a sentence; its own name where none is known. */
export function ruleText(rule: string): string {
  return RULE_TEXTS[rule] ?? rule.replaceAll("_", " ");
}

export function decisionWords(decision: Decision): string {
  switch (decision.type) {
    case "Migrate":
      return `Move up to ${plural(decision.max_requests ?? 1, "request")} ${decision.source_id} → ${decision.destination_id}`;
    case "Hole":
      return `Keep ${decision.instance_id} free for a request of ${count(decision.tokens)} tokens`;
    case "Drain":
      return `Drain ${decision.instance_id}`;
    case "Undrain":
      return `Take ${decision.instance_id} back into service`;
    case "ScaleUp":
      return `Add ${plural(decision.instances ?? 1, "instance")}`;
    case "ScaleDown":
      return `Remove ${decision.instance_id}`;
    default:
      return `${decision.type} ${decision.request_id ?? ""}`.trim();
  }
}

export function decisionWhy(decision: Decision): string {
  return decision.reason || (decision.rule ? (RULES[decision.rule] ?? decision.rule) : "");
}
