import { createTheme } from "@mantine/core";

const flat = (color: string) => Array.from({ length: 10 }, () => color) as unknown as readonly string[];

/** Mantine's parts take the design's tokens; the colours themselves live in styles/tokens.css. */
export const theme = createTheme({
  fontFamily: "var(--font)",
  fontFamilyMonospace: "var(--mono)",
  primaryColor: "accent",
  colors: { accent: flat("var(--accent)") as never },
  defaultRadius: 6,
  fontSizes: { xs: "11px", sm: "13px", md: "13px", lg: "15px", xl: "20px" },
  respectReducedMotion: true,
  focusRing: "auto",
});
