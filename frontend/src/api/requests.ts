import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { type RangeKey, sinceOf } from "../lib/range";
import { get, type Page } from "./client";
import { seconds } from "./migrations";
import type { RequestDetail, RequestRow } from "./shapes";
import type { LiveRequest } from "./types";

interface Answer {
  instance_id: string;
  asked_at: string;
  requests: LiveRequest[] | null;
}

export interface LiveRequests {
  askedAt: number;
  /** Null: not fetched yet, which is not "none". */
  requests: LiveRequest[] | null;
}

/** The requests on one instance, asked again while somebody looks. */
export function useLiveRequests(instanceId: string | null, everyMs: number | false = 2_000) {
  return useQuery({
    queryKey: ["requests", instanceId],
    queryFn: async (): Promise<LiveRequests> => {
      const answer = await get<Answer>(`instances/${instanceId}/requests`);
      return { askedAt: seconds(answer.asked_at), requests: answer.requests };
    },
    enabled: instanceId !== null,
    refetchInterval: everyMs,
    staleTime: 0,
    retry: false,
  });
}

/** Finished requests, newest first, page by page. */
export function useFinishedRequests(filters: Record<string, string>, range: RangeKey) {
  const firstPage = () => {
    const query = new URLSearchParams({ limit: "100" });
    for (const [name, value] of Object.entries(filters)) if (value) query.set(name, value);
    const since = sinceOf(range, Date.now());
    if (since) query.set("since", since);
    return `requests?${query}`;
  };
  return useInfiniteQuery({
    queryKey: ["requests", "finished", filters, range],
    placeholderData: keepPreviousData,
    initialPageParam: "",
    queryFn: ({ pageParam }) => get<Page<RequestRow>>(pageParam || firstPage()),
    getNextPageParam: (page) => page.next ?? undefined,
    refetchInterval: 10_000,
  });
}

/** One request with its life; asked again while it lives. */
export function useRequest(id: string) {
  return useQuery({
    queryKey: ["request", id],
    queryFn: () => get<RequestDetail>(`requests/${encodeURIComponent(id)}`),
    refetchInterval: (query) => (query.state.data?.finished_at ? false : 1_000),
  });
}
