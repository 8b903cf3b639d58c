/** A class is a pattern, never a colour: a cap line, plain, stripes; further classes have a bar at the foot. */
export function classPattern(name: string): string {
  const known: Record<string, string> = { interactive: "cap", standard: "plain", batch: "stripes" };
  return known[name] ?? "foot";
}

export function ClassMark({ name, color }: { name: string; color?: string }) {
  return (
    <span
      className={`class-mark pattern-${classPattern(name)}`}
      style={color ? ({ "--seg": color } as React.CSSProperties) : undefined}
      aria-hidden
    />
  );
}

/** What the patterns of memory mean: the classes, then what is held without being used. */
export function PatternLegend({ classes }: { classes: readonly string[] }) {
  return (
    <>
      {classes.map((name) => (
        <span key={name}>
          <ClassMark name={name} /> {name}
        </span>
      ))}
      <span>
        <span className="class-mark pattern-arriving" /> arriving
      </span>
      <span>
        <span className="class-mark pattern-headroom" /> headroom
      </span>
    </>
  );
}
