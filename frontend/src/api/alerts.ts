import { useQuery } from "@tanstack/react-query";
import { get, type Page } from "./client";
import type { Alert } from "./shapes";

export function useAlerts() {
  return useQuery({
    queryKey: ["alerts"],
    queryFn: async () => (await get<Page<Alert>>("alerts?limit=100")).results,
    refetchInterval: 5_000,
  });
}
