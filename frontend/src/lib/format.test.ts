import { describe, expect, it } from "vitest";
import { age, bytes, clock, count, duration, fixed, lasting, percent, plural, separated } from "./format";

describe("numbers", () => {
  it("shows what is absent as a dash, never as 0", () => {
    for (const shown of [
      count(null),
      fixed(undefined),
      percent(null),
      duration(null),
      age(null),
      bytes(null),
    ]) {
      expect(shown).toBe("–");
    }
    expect(count(0)).toBe("0");
  });

  it("never rounds a share below its whole up to it", () => {
    expect(percent(0.9999)).toBe("99.9\u202f%");
    expect(percent(1)).toBe("100.0\u202f%");
    expect(percent(0.941)).toBe("94.1\u202f%");
  });

  it("writes a true minus and separates thousands", () => {
    expect(count(6208)).toBe("6,208");
    expect(fixed(-29.84)).toBe("\u221229.8");
  });

  it("changes the unit of durations as they grow", () => {
    expect([431, 2910, 24_800, 72_000, 2_500_000].map(duration)).toEqual([
      "431\u202fms",
      "2.91\u202fs",
      "24.8\u202fs",
      "1\u202fmin 12\u202fs",
      "41\u202fmin 40\u202fs",
    ]);
  });

  it("keeps one number per magnitude at the borders", () => {
    expect(duration(999.6)).toBe("1\u202fs");
    expect(duration(59_960)).toBe("1\u202fmin");
    expect(age(9.96)).toBe("10\u202fs");
  });

  it("writes bytes in binary units", () => {
    expect(bytes(917_504)).toBe("896\u202fKiB");
    expect(bytes(8_053_063_680)).toBe("7.5\u202fGiB");
  });

  it("writes times in UTC", () => {
    expect(clock(11_526)).toBe("03:12:06");
  });

  it("counts one thing in the singular", () => {
    expect(plural(1, "request")).toBe("1 request");
    expect(plural(1200, "request")).toBe("1,200 requests");
  });
});

describe("words", () => {
  it("says how long something lasts with two units", () => {
    expect([2.6, 42.4, 72, 120, 3_840, 266_400].map(lasting)).toEqual([
      "2.6\u202fs",
      "42\u202fs",
      "1\u202fmin 12\u202fs",
      "2\u202fmin",
      "1\u202fh 4\u202fmin",
      "3\u202fd 2\u202fh",
    ]);
  });

  it("separates thousands in sentences of others, and leaves ids, decimals and times alone", () => {
    expect(separated("needs 6592 tokens, has 12 (of 11264).")).toBe(
      "needs 6,592 tokens, has 12 (of 11,264).",
    );
    for (const kept of [
      "cmpl-123456",
      "2026-11-21T03:12:07",
      "0.12345",
      "main-1234 → main-2",
      "#12345",
      "a1234",
    ]) {
      expect(separated(kept)).toBe(kept);
    }
  });
});
