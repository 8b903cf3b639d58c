const PATHS = {
  home: "M2.5 7.5 8 2.8l5.5 4.7v5.7h-4V9.5h-3v3.7h-4z",
  instances: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM4.6 5h.1M4.6 11h.1",
  moves: "M2.5 5h10m-3-2.8L12.5 5l-3 2.8M13.5 11h-10m3-2.8L3.5 11l3 2.8",
  tenants:
    "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM1.8 13.5c.3-2.5 2-4 4.2-4s3.9 1.5 4.2 4M10.8 3a2.2 2.2 0 0 1 0 4.200M11.8 9.700c1.4.5 2.2 1.8 2.4 3.8",
  audit: "M3.5 2h9v12h-9zM5.8 5.500h4.400M5.8 8h4.400M5.8 10.500h2.6",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg
      width={16}
      height={16}
      viewBox="0 0 16 16"
      aria-hidden
      fill="none"
      stroke="currentColor"
      strokeWidth={1.4}
    >
      <path d={PATHS[name]} strokeLinejoin="round" strokeLinecap="round" />
    </svg>
  );
}

export function Logo() {
  return (
    <svg width={20} height={20} viewBox="0 0 16 16" aria-hidden>
      <rect x={1} y={2} width={8.5} height={4} rx={1} fill="currentColor" />
      <rect x={1} y={9} width={4} height={4} rx={1} fill="currentColor" />
      <path d="M6.5 11h7m-2.6-2.600L13.5 11l-2.6 2.6" fill="none" stroke="var(--accent)" strokeWidth={1.7} />
    </svg>
  );
}
