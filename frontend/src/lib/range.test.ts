import { expect, test } from "vitest";
import { RANGES, rangeOf, rangeWords, STANDARD_RANGE, sinceOf } from "./range";

test("what the URL does not name, or names wrongly, is the standard range", () => {
  expect(rangeOf(null)).toBe(STANDARD_RANGE);
  expect(rangeOf("toString")).toBe(STANDARD_RANGE);
  expect(rangeOf("1h")).toBe("1h");
});

test("a range begins so many seconds before now, and all has no beginning", () => {
  const now = Date.parse("2026-11-21T03:12:07Z");
  expect(sinceOf("15m", now)).toBe("2026-11-21T02:57:07.000Z");
  expect(sinceOf("all", now)).toBeNull();
});

test("every range has words that fit into a sentence", () => {
  for (const key of Object.keys(RANGES)) expect(rangeWords(rangeOf(key))).toMatch(/^(in the last|of all)/);
});
