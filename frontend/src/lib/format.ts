// Numbers as the design writes them. Absent is "–", never 0; minus is "−"; units after a thin space.

export const ABSENT = "–";
const THIN = "\u202f";
const MINUS = "\u2212";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function sign(text: string): string {
  return text.replace("-", MINUS);
}

export function count(value: number | null | undefined): string {
  return value == null ? ABSENT : sign(whole.format(value));
}

export function fixed(value: number | null | undefined, digits = 1): string {
  return value == null ? ABSENT : sign(value.toFixed(digits));
}

/** A share of 1 as per cent with one decimal; rounded down near 100 so that 99.96 never reads as 100.0. */
export function percent(share: number | null | undefined, digits = 1): string {
  return share == null ? ABSENT : `${percentNumber(share, digits)}${THIN}%`;
}

export function percentNumber(share: number | null | undefined, digits = 1): string {
  if (share == null) return ABSENT;
  const scale = 10 ** digits;
  const value = share < 1 ? Math.floor(share * 100 * scale + 1e-9) / scale : share * 100;
  return sign(value.toFixed(digits));
}

/** Milliseconds below 1 s, then 2.91 s, 24.8 s, 1 min 12 s. */
export function duration(ms: number | null | undefined): string {
  if (ms == null) return ABSENT;
  const { value, unit } = durationParts(ms);
  return `${value}${THIN}${unit}`;
}

export function durationParts(ms: number): { value: string; unit: string } {
  if (ms < 999.5) return { value: ms < 9.95 ? trim(ms.toFixed(1)) : Math.round(ms).toString(), unit: "ms" };
  const seconds = ms / 1000;
  if (seconds < 9.995) return { value: trim(seconds.toFixed(2)), unit: "s" };
  if (seconds < 59.95) return { value: trim(seconds.toFixed(1)), unit: "s" };
  const rounded = Math.round(seconds);
  if (rounded < 3600) {
    const minutes = Math.floor(rounded / 60).toString();
    const rest = rounded % 60;
    return rest ? { value: `${minutes}${THIN}min ${rest}`, unit: "s" } : { value: minutes, unit: "min" };
  }
  return { value: `${Math.floor(rounded / 3600)}${THIN}h ${Math.floor((rounded % 3600) / 60)}`, unit: "min" };
}

function trim(text: string): string {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

/** An age in seconds: "0.4 s", "12 s", "3 min", "2 h". */
export function age(seconds: number | null | undefined): string {
  if (seconds == null) return ABSENT;
  const value = Math.max(0, seconds);
  if (value < 9.95) return `${value.toFixed(1)}${THIN}s`;
  if (value < 120) return `${Math.round(value)}${THIN}s`;
  if (value < 7200) return `${Math.floor(value / 60)}${THIN}min`;
  if (value < 172_800) return `${Math.floor(value / 3600)}${THIN}h`;
  return `${Math.floor(value / 86_400)}${THIN}d`;
}

/** How long something lasts, as in a sentence: "2.6 s", "42 s", "1 min 12 s", "1 h 4 min", "3 d 2 h". */
export function lasting(seconds: number | null | undefined): string {
  if (seconds == null) return ABSENT;
  const value = Math.max(0, seconds);
  if (value < 9.95) return `${value.toFixed(1)}${THIN}s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole}${THIN}s`;
  if (whole < 3_600) return twoUnits(whole, 60, "min", "s");
  if (whole < 86_400) return twoUnits(Math.floor(whole / 60), 60, "h", "min");
  return twoUnits(Math.floor(whole / 3_600), 24, "d", "h");
}

function twoUnits(value: number, per: number, large: string, small: string): string {
  const rest = value % per;
  const head = `${Math.floor(value / per)}${THIN}${large}`;
  return rest ? `${head} ${rest}${THIN}${small}` : head;
}

/** Words that came from elsewhere, with thousands separated: "6592 tokens" as "6,592 tokens"; ids and years stay. */
export function separated(text: string): string {
  return text.replace(/(?<![\w.,:#/+-])\d{4,}(?=[.,;:)]?(?:\s|$)|\))/g, (digits) => count(Number(digits)));
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function bytes(value: number | null | undefined): string {
  if (value == null) return ABSENT;
  let size = value;
  let step = 0;
  while (size >= 1024 && step < units.length - 1) {
    size /= 1024;
    step += 1;
  }
  return `${size < 10 && step > 0 ? size.toFixed(1) : Math.round(size)}${THIN}${units[step]}`;
}

/** Seconds since the epoch as 03:12:06 (UTC). */
export function clock(seconds: number | null | undefined): string {
  return seconds == null ? ABSENT : new Date(seconds * 1000).toISOString().slice(11, 19);
}

/** Full time for hovering: 2026-11-21 03:12:06.250 UTC. */
export function fullTime(seconds: number | null | undefined): string {
  if (seconds == null) return ABSENT;
  return `${new Date(seconds * 1000).toISOString().slice(0, 23).replace("T", " ")} UTC`;
}

/** 03:12:06 today, 20 Nov 03:12 before. */
export function moment(seconds: number | null | undefined, now: number): string {
  if (seconds == null) return ABSENT;
  const then = new Date(seconds * 1000);
  if (then.toISOString().slice(0, 10) === new Date(now * 1000).toISOString().slice(0, 10))
    return clock(seconds);
  const day = then.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return `${day} ${then.toISOString().slice(11, 16)}`;
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
