// Moves from the history, in the shape of the live socket (times as seconds), and what they add up to.

import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { type RangeKey, sinceOf } from "../lib/range";
import type { Migration } from "../live/types";
import { get, type Page } from "./client";
import type { MigrationSummary } from "./shapes";

export type MigrationRow = Omit<Migration, "started_at" | "updated_at" | "ended_at"> & {
  started_at: string;
  updated_at: string;
  ended_at: string | null;
};

export const seconds = (text: string): number => Date.parse(text) / 1000;

export function fromRow(row: MigrationRow): Migration {
  return {
    ...row,
    started_at: seconds(row.started_at),
    updated_at: seconds(row.updated_at),
    ended_at: row.ended_at === null ? null : seconds(row.ended_at),
  };
}

export async function getMigration(id: string): Promise<Migration> {
  return fromRow(await get<MigrationRow>(`migrations/${encodeURIComponent(id)}`));
}

export async function getMigrations(path: string): Promise<Page<Migration>> {
  const page = await get<Page<MigrationRow>>(path);
  return { ...page, results: page.results.map(fromRow) };
}

/** Which moves: empty means any. */
export interface MoveFilters {
  pool: string;
  done: string;
  source: string;
  destination: string;
  rule: string;
  q: string;
}

function queryOf(filters: Partial<MoveFilters>, range: RangeKey, more: Record<string, string>): string {
  const query = new URLSearchParams(more);
  for (const [name, value] of Object.entries(filters)) if (value) query.set(name, value);
  // "All" still has to name a beginning: without one the API takes the last day.
  query.set("since", sinceOf(range, Date.now()) ?? new Date(Date.now() - 399 * 86_400_000).toISOString());
  return query.toString();
}

/** Ended moves of a range, newest first, page by page. */
export function useMoves(filters: MoveFilters, range: RangeKey) {
  return useInfiniteQuery({
    queryKey: ["migrations", "list", range, filters],
    initialPageParam: "",
    queryFn: ({ pageParam }) =>
      getMigrations(
        pageParam ||
          `migrations?${queryOf(filters, range, { limit: "50", ...(filters.done ? {} : { final: "true" }) })}`,
      ),
    getNextPageParam: (page) => page.next ?? undefined,
    placeholderData: (before) => before,
  });
}

/** Sums over a range: by pair, by rule, by reason, and the downtimes. */
export function useMoveSums(filters: Partial<MoveFilters>, range: RangeKey) {
  return useQuery({
    queryKey: ["migrations", "sums", range, filters],
    queryFn: () => get<MigrationSummary>(`migrations/summary?${queryOf(filters, range, {})}`),
    refetchInterval: 10_000,
    placeholderData: (before) => before,
  });
}
