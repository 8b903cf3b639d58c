import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { useLiveStore } from "./context";
import type { ControlEvent } from "./types";

/** Which lists are out of date after an event. Audited acts name their object. */
const LISTS: Partial<Record<ControlEvent["type"], readonly string[]>> = {
  migration: ["migrations", "request"],
  instance: ["instances", "operations"],
  tenant_class: ["tenants"],
  loop: [],
  round: ["rounds"],
  audit: ["audit"],
  alert: ["alerts"],
  pool: ["pools"],
  tenancy: ["tenants", "classes"],
  policy: ["policies", "policy-check"],
  what_if: ["what-if"],
};

const OBJECTS: Record<string, readonly string[]> = {
  tenant: ["tenants"],
  membership: ["people", "tenants"],
  user: ["people"],
  slo_class: ["classes"],
  policy: ["policies"],
  policy_version: ["policies"],
  pool: ["pools"],
  alert: ["alerts"],
  request: ["requests", "request"],
};

export function listsTouchedBy(event: ControlEvent): readonly string[] {
  const more = event.type === "audit" ? (OBJECTS[event.object_type.toLowerCase()] ?? []) : [];
  return [...(LISTS[event.type] ?? []), ...more];
}

/** Lists that came by REST are asked again when an event says that they changed. */
export function Freshen() {
  const store = useLiveStore();
  const queries = useQueryClient();
  useEffect(
    () =>
      store.onNews((event) => {
        if (event === null) return;
        for (const name of listsTouchedBy(event)) void queries.invalidateQueries({ queryKey: [name] });
      }),
    [store, queries],
  );
  return null;
}
