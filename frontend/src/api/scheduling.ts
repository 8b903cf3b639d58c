// Rounds, policies, pools: what decides, and how it is set.

import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { type RangeKey, sinceOf } from "../lib/range";
import { get, getVersioned, type Page, post } from "./client";
import type { PolicyField, PolicyVersion as PolicyRow, Pool, PoolSize, ScalingDecision } from "./shapes";

export type { PolicyField, Pool, PoolSize, ScalingDecision } from "./shapes";
export type PolicyVersion = Omit<PolicyRow, "config"> & { config: Config };

export interface Decision {
  type: string;
  source_id?: string;
  destination_id?: string;
  instance_id?: string;
  rule?: string;
  reason?: string;
  budget_tokens?: number;
  max_requests?: number;
  instances?: number;
  request_id?: string;
  tokens?: number;
}

export interface RoundAnswer {
  accepted: boolean;
  reason?: string;
  planned?: {
    migration_id: string;
    request_id: string;
    tokens: number;
    why: string;
    tenant: string;
    slo_class: string;
  }[];
}

export interface Round {
  id: number;
  pool: string;
  taken_at: string;
  epoch: number;
  tick: number;
  policy_version: number | null;
  decisions: Decision[];
  answers: RoundAnswer[];
  duration_ms: number;
}

export interface Candidate {
  instance_id: string;
  role: "chosen" | "candidate" | "source" | "dropped";
  score: number | null;
  freeness_tokens: number | null;
  used_tokens: number;
  reserved_tokens: number;
  headroom_tokens: number;
  running: number;
  waiting: number;
  reason: string;
}

export interface Explanation {
  rule: string;
  sentence: string;
  candidates: Candidate[];
  margin: number | null;
  would_change: string;
  numbers: Record<string, number>;
}

export type Config = { [name: string]: Config | string | number | boolean | null };

export interface PolicyProblem {
  field: string;
  message: string;
}

export interface PolicyCheck {
  valid: boolean;
  config: Config | null;
  problems: PolicyProblem[];
}

export interface PreviewInstance {
  instance_id: string;
  freeness_tokens: number | null;
  freeness_now_tokens: number | null;
  used_tokens: number;
  capacity_tokens: number;
  running: number;
  waiting: number;
  draining: boolean;
  age_s: number;
}

export interface ExplainedDecision {
  decision: Decision;
  explanation: Explanation;
}

export interface Preview {
  taken_at_s: number;
  policy: string;
  instances: PreviewInstance[];
  decisions: ExplainedDecision[];
  decisions_now: ExplainedDecision[];
  diff: { path: string; before: unknown; after: unknown }[];
}

export function useRounds(pool: string | null, range: RangeKey) {
  return useInfiniteQuery({
    queryKey: ["rounds", pool, range],
    initialPageParam: "",
    queryFn: ({ pageParam }) => get<Page<Round>>(pageParam || `rounds?${listQuery(range, pool)}`),
    getNextPageParam: (page) => page.next ?? undefined,
    refetchInterval: 5_000,
  });
}

export function useExplanation(roundId: number, decision: number) {
  return useQuery({
    queryKey: ["explanation", roundId, decision],
    queryFn: () => get<Explanation>(`rounds/${roundId}/explain?decision=${decision}`),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function usePolicies(pool: string) {
  return useQuery({
    queryKey: ["policies", pool],
    queryFn: () => get<Page<PolicyVersion>>(`policies?pool=${encodeURIComponent(pool)}&limit=100`),
    enabled: pool !== "",
  });
}

function listQuery(range: RangeKey, pool: string | null): string {
  const since = sinceOf(range, Date.now());
  return String(new URLSearchParams({ limit: "50", ...(pool ? { pool } : {}), ...(since ? { since } : {}) }));
}

/**
 * Make a version the active one, as it was read: the server refuses what has changed since. With `forS`
 * the version before comes back by itself after so many seconds.
 */
export async function activatePolicy(id: number, reason: string, forS: number | null = null): Promise<void> {
  const found = await getVersioned<PolicyVersion>(`policies/${id}`);
  const asked = { change_reason: reason, ...(forS === null ? {} : { for_s: forS }) };
  await post(`policies/${id}/activate`, asked, found.etag);
}

export function usePolicyFields() {
  return useQuery({
    queryKey: ["policy-fields"],
    queryFn: async () => (await get<{ results: PolicyField[] }>("policies/schema")).results,
    staleTime: Number.POSITIVE_INFINITY,
  });
}

export function usePools() {
  return useQuery({
    queryKey: ["pools"],
    queryFn: () => get<Page<Pool>>("pools?limit=100"),
    refetchInterval: 5_000,
  });
}

/** Target, actual and ready of a pool, and who holds it. */
export function usePoolSize(pool: string) {
  return useQuery({
    queryKey: ["pools", pool, "size"],
    queryFn: () => get<PoolSize>(`pools/${encodeURIComponent(pool)}/autoscaling`),
    enabled: pool !== "",
    refetchInterval: 2_000,
  });
}

export function useScalingDecisions(pool: string, range: RangeKey) {
  return useQuery({
    queryKey: ["pools", pool, "decisions", range],
    queryFn: () =>
      get<Page<ScalingDecision>>(
        `pools/${encodeURIComponent(pool)}/autoscaling/decisions?${listQuery(range, null)}`,
      ),
    enabled: pool !== "",
    refetchInterval: 5_000,
  });
}

/** The core's judgement of a configuration, with its defaults filled in. */
export function useCheck(config: Config, enabled: boolean) {
  return useQuery({
    queryKey: ["policy-check", JSON.stringify(config)],
    queryFn: () => post<PolicyCheck>("policies/validate", { config }),
    enabled,
    staleTime: 60_000,
    placeholderData: (before) => before,
  });
}
