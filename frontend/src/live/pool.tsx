import { createContext, type ReactNode, useContext, useMemo, useState } from "react";
import { ordered } from "../lib/fleet";
import { useShown } from "./context";
import type { Instance } from "./types";

interface PoolChoice {
  pools: string[];
  /** Null: all pools. */
  pool: string | null;
  choose(pool: string | null): void;
}

const PoolContext = createContext<PoolChoice | null>(null);

/** Which pool the screens show; with one pool there is nothing to choose. */
export function PoolProvider({ children }: { children: ReactNode }) {
  const { state } = useShown();
  const [chosen, choose] = useState<string | null>(null);
  const names = state ? [...new Set([...state.instances.values()].map((item) => item.pool))].sort() : [];
  const key = names.join("\n");
  const value = useMemo(() => {
    const pools = key ? key.split("\n") : [];
    return { pools, pool: chosen !== null && pools.includes(chosen) ? chosen : null, choose };
  }, [key, chosen]);
  return <PoolContext.Provider value={value}>{children}</PoolContext.Provider>;
}

export function usePool(): PoolChoice {
  const choice = useContext(PoolContext);
  if (choice === null) throw new Error("usePool outside PoolProvider");
  return choice;
}

/** The instances of the chosen pool, in order. */
export function useInstances(): Instance[] {
  const { state } = useShown();
  const { pool } = usePool();
  return useMemo(() => (state ? ordered(state, pool) : []), [state, pool]);
}
