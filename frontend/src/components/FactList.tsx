/** A card of names and values, as a description list. */
export function FactList({ rows, label }: { rows: [string, string][]; label?: string }) {
  return (
    <section className="card card-body" aria-label={label}>
      <dl className="facts">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt className="t3">{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
