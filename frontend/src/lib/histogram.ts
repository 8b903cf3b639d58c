export interface Bins {
  low: number;
  high: number;
  counts: number[];
}

/** Equal bins from the least to the greatest value; null of nothing. */
export function bins(values: readonly number[], number: number): Bins | null {
  if (values.length === 0) return null;
  const low = Math.min(...values);
  const high = Math.max(...values, low + 1);
  const counts = Array.from({ length: number }, () => 0);
  for (const value of values) {
    const place = Math.min(number - 1, Math.floor(((value - low) / (high - low)) * number));
    counts[place] = (counts[place] ?? 0) + 1;
  }
  return { low, high, counts };
}
