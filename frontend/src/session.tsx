import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useCallback, useContext } from "react";
import { ApiError, get, remove } from "./api/client";
import type { Me } from "./api/types";

export type Session =
  | { kind: "loading" }
  | { kind: "signed_out" }
  | { kind: "unreachable"; message: string; retry: () => void }
  | { kind: "signed_in"; me: Me };

export function useSession(): Session {
  const query = useQuery({ queryKey: ["me"], queryFn: () => get<Me>("me"), staleTime: 60_000 });
  if (query.data) return { kind: "signed_in", me: query.data };
  if (query.error instanceof ApiError && [401, 403].includes(query.error.status))
    return { kind: "signed_out" };
  if (query.error) {
    return { kind: "unreachable", message: query.error.message, retry: () => void query.refetch() };
  }
  return { kind: "loading" };
}

const MeContext = createContext<Me | null>(null);

export function MeProvider({ me, children }: { me: Me; children: ReactNode }) {
  return <MeContext.Provider value={me}>{children}</MeContext.Provider>;
}

export function useMe(): Me {
  const me = useContext(MeContext);
  if (me === null) throw new Error("useMe outside MeProvider");
  return me;
}

/** End the session here and at the server; every cached answer is forgotten. */
export function useSignOut(): () => Promise<void> {
  const queries = useQueryClient();
  return useCallback(async () => {
    await remove("session").catch(() => undefined);
    queries.clear();
    window.location.assign("/");
  }, [queries]);
}
