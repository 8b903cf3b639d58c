import { expect, test } from "vitest";
import { type CompareRow, placeOn, scaleOf, ticksOf, verdict } from "./whatIf";

function row(factor: number | null, better: CompareRow["better"]): CompareRow {
  return { name: "x", first: "1", second: "2", factor, better };
}

test("the verdict knows whether more or less is better, and calls 2 % the same", () => {
  expect(verdict(row(0.5, "less"))).toBe("better");
  expect(verdict(row(0.5, "more"))).toBe("worse");
  expect(verdict(row(1.5, "less"))).toBe("worse");
  expect(verdict(row(1.01, "less"))).toBe("same");
  expect(verdict(row(3, null))).toBeNull();
  expect(verdict(row(null, "less"))).toBeNull();
});

test("a scale puts its ends at 0 and 1, logarithmic ones the geometric middle at a half", () => {
  const line = scaleOf([3, 8], false);
  expect([placeOn(line, 0), placeOn(line, 8)]).toEqual([0, 1]);
  const log = scaleOf([0.01, 1, 0], true);
  expect(placeOn(log, 0.01)).toBeCloseTo(0);
  expect(placeOn(log, 0.1)).toBeCloseTo(0.5);
  expect(placeOn(log, 0)).toBeCloseTo(0);
});

test("logarithmic ticks are powers of ten inside the scale, at most five", () => {
  const ticks = ticksOf(scaleOf([0.0003, 700], true));
  expect(ticks.length).toBeLessThanOrEqual(5);
  for (const tick of ticks) expect(Math.log10(tick)).toBeCloseTo(Math.round(Math.log10(tick)));
});
