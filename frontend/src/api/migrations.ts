// Moves from the history, in the shape of the live socket (times as seconds).

import type { Migration } from "../live/types";
import { get, type Page } from "./client";

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
