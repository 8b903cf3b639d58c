// What an import would change and what is wrong with its file, in words. Pure.

export interface Fault {
  /** "tenants.acme.weight"; empty for the file as a whole. */
  field: string;
  message: string;
}

const PLACE = /^([a-z][\w.-]*): (.+)$/s;

/** The server's complaints; those of the document name their place in it before the colon. */
export function faultsOf(errors: readonly { field: string; message: string }[]): Fault[] {
  return errors.map(({ field, message }) => {
    if (!/^document\b/.test(field)) return { field, message };
    const place = PLACE.exec(message);
    return place?.[1] && place[2] ? { field: place[1], message: place[2] } : { field: "", message };
  });
}

interface Change {
  before?: Record<string, unknown> | null;
  after?: Record<string, unknown> | null;
}

/** Field by field: as it is, as it would be. */
export function fieldChanges({ before, after }: Change): { field: string; before: string; after: string }[] {
  return Object.entries(after ?? {}).map(([field, value]) => ({
    field,
    before: shown(before?.[field]),
    after: shown(value),
  }));
}

function shown(value: unknown): string {
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value)) return value.map(shown).join(", ") || "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
