const PATHS = {
  home: "M2.5 7.5 8 2.8l5.5 4.7v5.7h-4V9.5h-3v3.7h-4z",
  instances: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM4.6 5h.1M4.6 11h.1",
  cluster: "M2.5 2.5h4.500v4.500h-4.500zM9 2.5h4.500v4.500H9zM2.5 9h4.500v4.500h-4.500zM9 9h4.500v4.500H9z",
  requests: "M2.5 4h11M2.5 8h8M2.5 12h5",
  policies:
    "M2.5 4.500h5m3 0h3M7.500 3v3M2.5 8h8.500m0-1.500v3m0-1.500h2.500M2.5 11.500h2.500m3 0h5.500M5 10v3",
  alerts: "M4 11V7.500a4 4 0 0 1 8 0V11l1.300 1.500H2.700zM6.800 14.200h2.400",
  playground: "M2.5 3h11v8h-6l-3 2.500V11h-2z",
  settings:
    "M8 10.200a2.200 2.200 0 1 0 0-4.400 2.200 2.200 0 0 0 0 4.400zM8 1.800v2M8 12.200v2M14.200 8h-2M3.800 8h-2M12.400 3.600 11 5M5 11l-1.400 1.400M12.400 12.400 11 11M5 5 3.600 3.600",
  more: "M3.5 8h.1M8 8h.1M12.500 8h.1",
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
