// What-if: traces, and two policies simulated on one of them.

import { useQuery } from "@tanstack/react-query";
import { get, type Page } from "./client";
import type { Config } from "./scheduling";
import type { Trace, WhatIf, WhatIfJob } from "./shapes";

export type { Trace, WhatIfJob } from "./shapes";

interface Distribution {
  mean: number;
  p50: number;
  p99: number;
}

interface Group {
  requests: number;
  prefill_s: Distribution;
  request_s: Distribution;
  decode_s: Distribution;
  preemptions: number;
  preemption_loss_mean_s: number;
  slo_attainment: number;
  goodput_per_s: number;
}

export interface SystemRun {
  name: string;
  metrics: {
    service: { all: Group; classes: Record<string, Group>; longest_wait_s: number; migrations: number };
    rejected: number;
    used_share_mean: number;
    fragmentation_mean: number;
    migrations_done: number;
    migrations_aborted: number;
  };
  series: { at_s: number[]; used_share: number[]; running: number[]; waiting: number[] };
  /** Seconds, and the share of requests that took longer. */
  prefill_ccdf: [number, number][];
  request_ccdf: [number, number][];
}

export interface Answer {
  systems: [SystemRun, SystemRun];
}

export type WhatIfDetail = Omit<WhatIf, "result" | "policies"> & {
  policies: { name: string; config: Config }[];
  result: Answer | Record<string, never>;
};

export const OPEN_STATES: readonly string[] = ["queued", "running"];

export function useTraces() {
  return useQuery({
    queryKey: ["what-if", "traces"],
    queryFn: async () => (await get<Page<Trace>>("what-if/traces?limit=100")).results,
  });
}

export function useWhatIfJobs(pool: string) {
  return useQuery({
    queryKey: ["what-if", "jobs", pool],
    queryFn: async () =>
      (await get<Page<WhatIfJob>>(`what-if/jobs?limit=50&pool=${encodeURIComponent(pool)}`)).results,
    enabled: pool !== "",
    refetchInterval: (query) =>
      query.state.data?.some((job) => OPEN_STATES.includes(job.state ?? "")) ? 2_000 : 15_000,
  });
}

export function useWhatIf(id: string) {
  return useQuery({
    queryKey: ["what-if", "job", id],
    queryFn: () => get<WhatIfDetail>(`what-if/jobs/${id}`),
    enabled: id !== "",
    refetchInterval: (query) => (OPEN_STATES.includes(query.state.data?.state ?? "queued") ? 1_000 : false),
  });
}

export function answerOf(job: WhatIfDetail): Answer | null {
  return "systems" in job.result ? (job.result as Answer) : null;
}
