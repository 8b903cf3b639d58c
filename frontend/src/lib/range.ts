// How far back lists and sums look. Pure.

export const RANGES = {
  "15m": { words: "Last 15 min", seconds: 900 },
  "1h": { words: "Last hour", seconds: 3_600 },
  "6h": { words: "Last 6 hours", seconds: 21_600 },
  "24h": { words: "Last 24 hours", seconds: 86_400 },
  "7d": { words: "Last 7 days", seconds: 604_800 },
  all: { words: "All that is kept", seconds: null },
} as const;

export type RangeKey = keyof typeof RANGES;
export const STANDARD_RANGE: RangeKey = "24h";

export function rangeOf(text: string | null | undefined): RangeKey {
  return text && Object.hasOwn(RANGES, text) ? (text as RangeKey) : STANDARD_RANGE;
}

/** The beginning of a range as the API takes it; null when nothing is too old. */
export function sinceOf(range: RangeKey, nowMs: number): string | null {
  const { seconds } = RANGES[range];
  return seconds === null ? null : new Date(nowMs - seconds * 1000).toISOString();
}

/** As part of a sentence: "in the last 15 min". */
export function rangeWords(range: RangeKey): string {
  return range === "all" ? "of all that is kept" : `in the ${RANGES[range].words.toLowerCase()}`;
}
