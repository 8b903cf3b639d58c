import { createContext, type ReactNode, useContext, useEffect, useMemo, useRef, useState } from "react";
import { useLocation, useSearchParams } from "react-router";
import { type RangeKey, rangeOf, STANDARD_RANGE } from "../lib/range";

export interface Scope {
  /** The pool by its name; null: all. */
  pool: string | null;
  range: RangeKey;
  choosePool(pool: string | null): void;
  chooseRange(range: RangeKey): void;
}

const ScopeContext = createContext<Scope | null>(null);
const NAMES = ["pool", "range"] as const;
type Names = Record<(typeof NAMES)[number], string>;

/**
 * What all screens share: which pool, and how far back. It stands in the URL of every screen; a link that
 * does not name it keeps it.
 */
export function ScopeProvider({ children }: { children: ReactNode }) {
  const [query, setQuery] = useSearchParams();
  const { pathname } = useLocation();
  const [kept, setKept] = useState<Names>(() => namesOf(query));
  const shownAt = useRef(pathname);
  useEffect(() => {
    const moved = shownAt.current !== pathname;
    shownAt.current = pathname;
    const said = namesOf(query);
    const lost = NAMES.filter((name) => moved && kept[name] && !said[name]);
    if (lost.length) {
      setQuery((before) => withNames(before, { ...said, ...pick(kept, lost) }), { replace: true });
    } else if (NAMES.some((name) => said[name] !== kept[name])) {
      setKept(said);
    }
  }, [pathname, query, setQuery, kept]);
  const value = useMemo(() => {
    const choose = (change: Partial<Names>) => {
      const next = { ...kept, ...change };
      setKept(next);
      setQuery((before) => withNames(before, next), { replace: true });
    };
    return {
      pool: kept.pool || null,
      range: rangeOf(kept.range),
      choosePool: (pool: string | null) => choose({ pool: pool ?? "" }),
      chooseRange: (range: RangeKey) => choose({ range: range === STANDARD_RANGE ? "" : range }),
    };
  }, [kept, setQuery]);
  return <ScopeContext.Provider value={value}>{children}</ScopeContext.Provider>;
}

export function useScope(): Scope {
  const scope = useContext(ScopeContext);
  if (scope === null) throw new Error("useScope outside ScopeProvider");
  return scope;
}

function namesOf(query: URLSearchParams): Names {
  return { pool: query.get("pool") ?? "", range: query.get("range") ?? "" };
}

function pick(names: Names, some: readonly (keyof Names)[]): Partial<Names> {
  return Object.fromEntries(some.map((name) => [name, names[name]]));
}

function withNames(before: URLSearchParams, names: Names): URLSearchParams {
  const next = new URLSearchParams(before);
  for (const name of NAMES) {
    if (names[name]) next.set(name, names[name]);
    else next.delete(name);
  }
  return next;
}
