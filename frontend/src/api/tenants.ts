// Tenants, classes, keys, limits, boosts, members, usage.

import { useQuery } from "@tanstack/react-query";
import { get, type Page } from "./client";
import type {
  AttainmentRow,
  BoostRow,
  ClassRow,
  KeyRow,
  LimitRow,
  MemberRow,
  TenantRow,
  UsageRow,
} from "./shapes";

export const ATTAINMENT_MIN = 5;

async function all<T>(path: string): Promise<T[]> {
  return (await get<Page<T>>(`${path}${path.includes("?") ? "&" : "?"}limit=200`)).results;
}

export function useTenants() {
  return useQuery({
    queryKey: ["tenants"],
    queryFn: () => all<TenantRow>("tenants"),
    refetchInterval: 10_000,
  });
}

export function useTenant(slug: string) {
  return useQuery({ queryKey: ["tenants", slug], queryFn: () => get<TenantRow>(`tenants/${slug}`) });
}

export function useClasses() {
  return useQuery({
    queryKey: ["classes"],
    queryFn: async () => (await all<ClassRow>("slo-classes")).sort((a, b) => a.rank - b.rank),
  });
}

export function useAttainment() {
  return useQuery({
    queryKey: ["tenants", "attainment"],
    queryFn: async () =>
      (await get<{ results: AttainmentRow[] }>(`attainment?minutes=${ATTAINMENT_MIN}`)).results,
    refetchInterval: 10_000,
  });
}

export function useLimits() {
  return useQuery({ queryKey: ["tenants", "limits"], queryFn: () => all<LimitRow>("limits") });
}

export function useTenantLimits(slug: string) {
  return useQuery({
    queryKey: ["tenants", slug, "limits"],
    queryFn: () => all<LimitRow>(`tenants/${slug}/limits`),
  });
}

export function useBoosts(tenant = "") {
  return useQuery({
    queryKey: ["tenants", "boosts", tenant],
    queryFn: () => all<BoostRow>(`boosts${tenant ? `?tenant=${tenant}` : ""}`),
    refetchInterval: 30_000,
  });
}

export function useKeys(slug: string) {
  return useQuery({
    queryKey: ["tenants", slug, "keys"],
    queryFn: () => all<KeyRow>(`tenants/${slug}/keys`),
  });
}

export function useMembers(slug: string) {
  return useQuery({
    queryKey: ["tenants", slug, "members"],
    queryFn: () => all<MemberRow>(`tenants/${slug}/members`),
  });
}

/** Usage by day and class of the last days. */
export function useUsage(slug: string, days: number) {
  const until = new Date();
  const since = new Date(until.getTime() - (days - 1) * 86_400_000);
  const day = (moment: Date) => moment.toISOString().slice(0, 10);
  const path = `usage?tenant=${slug}&by=day,slo_class&since=${day(since)}&until=${day(until)}`;
  return useQuery({
    queryKey: ["tenants", slug, "usage", path],
    queryFn: async () => (await get<{ results: UsageRow[] }>(path)).results,
  });
}
