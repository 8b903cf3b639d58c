import { useMemo } from "react";
import { ordered } from "../lib/fleet";
import { useShown } from "./context";
import { useScope } from "./scope";
import type { Instance } from "./types";

interface PoolChoice {
  pools: string[];
  /** Null: all pools. */
  pool: string | null;
  choose(pool: string | null): void;
}

/** Which pool the screens show; with one pool there is nothing to choose. */
export function usePool(): PoolChoice {
  const { state } = useShown();
  const { pool, choosePool } = useScope();
  const names = state ? [...new Set([...state.instances.values()].map((item) => item.pool))].sort() : [];
  const key = names.join("\n");
  return useMemo(() => {
    const pools = key ? key.split("\n") : [];
    return { pools, pool: pool !== null && pools.includes(pool) ? pool : null, choose: choosePool };
  }, [key, pool, choosePool]);
}

/** The instances of the chosen pool, in order. */
export function useInstances(): Instance[] {
  const { state } = useShown();
  const { pool } = usePool();
  return useMemo(() => (state ? ordered(state, pool) : []), [state, pool]);
}
