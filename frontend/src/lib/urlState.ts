import { useCallback } from "react";
import { useSearchParams } from "react-router";

/** One setting of a screen, kept in the URL; the default is not written there. */
export function useUrlState<T extends string>(name: string, standard: T): [T, (value: T) => void] {
  const [query, setQuery] = useSearchParams();
  const value = (query.get(name) ?? standard) as T;
  const set = useCallback(
    (next: T) =>
      setQuery(
        (before) => {
          const changed = new URLSearchParams(before);
          if (next === standard || next === "") changed.delete(name);
          else changed.set(name, next);
          return changed;
        },
        { replace: true },
      ),
    [setQuery, name, standard],
  );
  return [value, set];
}
