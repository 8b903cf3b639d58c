// What a decision says, in words. Pure.

import type { Decision } from "../api/scheduling";
import { count, plural } from "./format";

const RULES: Record<string, string> = {
  load: "overload",
  preempted: "pre-empted requests",
  drain: "drain",
  hole: "a waiting request",
  consolidate: "to free a whole instance",
};

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
