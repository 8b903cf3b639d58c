import { useQuery } from "@tanstack/react-query";
import { get } from "./client";
import { seconds } from "./migrations";
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
