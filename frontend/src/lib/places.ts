import type { IconName } from "../components/Icon";

export interface Place {
  to: string;
  name: string;
  short: string;
  icon: IconName;
  key: string;
}

/** Every page of the rail; `g` and the key jump there. */
export const PLACES: readonly Place[] = [
  { to: "/", name: "Overview", short: "Overview", icon: "home", key: "o" },
  { to: "/cluster", name: "Cluster", short: "Cluster", icon: "cluster", key: "c" },
  { to: "/instances", name: "Instances", short: "Instances", icon: "instances", key: "i" },
  { to: "/requests", name: "Requests", short: "Requests", icon: "requests", key: "r" },
  { to: "/migrations", name: "Migrations", short: "Moves", icon: "moves", key: "m" },
  { to: "/scheduling", name: "Scheduling", short: "Scheduling", icon: "policies", key: "p" },
  { to: "/tenants", name: "Tenants", short: "Tenants", icon: "tenants", key: "t" },
  { to: "/alerts", name: "Alerts", short: "Alerts", icon: "alerts", key: "a" },
  { to: "/audit", name: "Audit", short: "Audit", icon: "audit", key: "u" },
  { to: "/playground", name: "Playground", short: "Playground", icon: "playground", key: "y" },
];

export const SETTINGS: Place = {
  to: "/settings",
  name: "Settings",
  short: "Settings",
  icon: "settings",
  key: "s",
};

/** On a phone: what is needed at 3 a.m.; the rest is behind "More". */
export const TABS = ["/", "/instances", "/migrations", "/alerts"];

/** What a screen is called in the browser's title: its place, and of what. */
export function placeName(pathname: string): string {
  const [, root = "", ...rest] = pathname.split("/");
  const name = [...PLACES, SETTINGS].find((place) => place.to === `/${root}`)?.name ?? "Overview";
  const inner = rest.join(" ");
  return inner ? `${inner} · ${name}` : name;
}
