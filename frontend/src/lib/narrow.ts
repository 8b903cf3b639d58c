import { useMediaQuery } from "@mantine/hooks";

/** Below 720 px tables become lists. */
export function useNarrow(): boolean {
  return useMediaQuery("(max-width: 720px)", false, { getInitialValueInEffect: false }) ?? false;
}
