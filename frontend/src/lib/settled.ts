import { useDebouncedValue } from "@mantine/hooks";

const QUIET_MS = 250;

/** What was typed, once the typing pauses: the server is asked for words, not for letters. */
export function useSettled(text: string): string {
  const [settled] = useDebouncedValue(text, QUIET_MS);
  return settled;
}
