// A policy's configuration as rows, and the difference of two. Pure.

import type { Config } from "../api/scheduling";

export type Scalar = string | number | boolean | null;

/** `{dispatch: {watermark_share: 0.01}}` as `[["dispatch.watermark_share", 0.01]]`. */
export function flatten(config: Config, prefix = ""): [string, Scalar][] {
  return Object.entries(config).flatMap(([name, value]): [string, Scalar][] => {
    const path = prefix ? `${prefix}.${name}` : name;
    return value !== null && typeof value === "object" ? flatten(value, path) : [[path, value]];
  });
}

/** The configuration with one value set; the given one stays as it is. */
export function withValue(config: Config, path: string, value: Scalar): Config {
  const [head = "", ...rest] = path.split(".");
  if (rest.length === 0) return { ...config, [head]: value };
  const inner = config[head];
  const nested = inner !== null && typeof inner === "object" ? inner : {};
  return { ...config, [head]: withValue(nested, rest.join("."), value) };
}

export function valueAt(config: Config, path: string): Scalar | undefined {
  return new Map(flatten(config)).get(path);
}

export interface DiffLine {
  kind: "same" | "out" | "in";
  text: string;
}

/** Lines as of a unified diff: changed values with what stands around them, group by group. */
export function diffLines(before: Config, after: Config): DiffLine[] {
  const old = new Map(flatten(before));
  const fresh = new Map(flatten(after));
  const paths = [...new Set([...old.keys(), ...fresh.keys()])];
  const changed = paths.filter((path) => old.get(path) !== fresh.get(path));
  const groups = new Set(changed.map(groupOf));
  const lines: DiffLine[] = [];
  let group: string | null = null;
  for (const path of paths.filter((each) => groups.has(groupOf(each)))) {
    if (groupOf(path) !== group) {
      group = groupOf(path);
      if (group) lines.push({ kind: "same", text: `${group}:` });
    }
    lines.push(...linesOf(path, old, fresh));
  }
  return lines;
}

export function changedPaths(before: Config, after: Config): string[] {
  const old = new Map(flatten(before));
  return flatten(after)
    .filter(([path, value]) => old.get(path) !== value)
    .map(([path]) => path);
}

function linesOf(path: string, old: Map<string, Scalar>, fresh: Map<string, Scalar>): DiffLine[] {
  const group = groupOf(path);
  const name = group ? `  ${path.slice(group.length + 1)}` : path;
  const line = (value: Scalar) => `${name}: ${value === null ? "null" : String(value)}`;
  const [was, is] = [old.get(path), fresh.get(path)];
  if (was === is && was !== undefined) return [{ kind: "same", text: line(was) }];
  return [
    ...(was === undefined ? [] : [{ kind: "out" as const, text: line(was) }]),
    ...(is === undefined ? [] : [{ kind: "in" as const, text: line(is) }]),
  ];
}

export function groupOf(path: string): string {
  const dot = path.lastIndexOf(".");
  return dot < 0 ? "" : path.slice(0, dot);
}
