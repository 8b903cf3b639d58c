// Tenants have colours in order of creation; from the ninth on they share one grey.

const SLOTS = 8;

export function tenantColor(tenants: readonly string[], slug: string): string {
  const place = tenants.indexOf(slug);
  return place >= 0 && place < SLOTS ? `var(--t${place + 1})` : "var(--t-other)";
}
