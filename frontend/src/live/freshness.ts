// How old a report is, and what that makes of it.

export const LATE_S = 3;
export const STALE_S = 10;

export type Freshness = "live" | "late" | "stale" | "unknown";

/** Live below 3 s, late to 10 s, then stale; unknown before the first report. */
export function freshness(heardAt: number | null, now: number): { freshness: Freshness; age: number | null } {
  if (heardAt === null) return { freshness: "unknown", age: null };
  const age = Math.max(0, now - heardAt);
  return { freshness: age < LATE_S ? "live" : age < STALE_S ? "late" : "stale", age };
}
