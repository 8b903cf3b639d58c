import { Menu, useMantineColorScheme } from "@mantine/core";
import type { ReactNode } from "react";
import { NavLink } from "react-router";
import { runningMoves } from "../lib/fleet";
import { clock, count } from "../lib/format";
import { situation } from "../lib/situation";
import { useLiveStore, useShown } from "../live/context";
import { useInstances, usePool } from "../live/pool";
import { useMe, useSignOut } from "../session";
import { ConnectionLabel } from "./ConnectionLabel";
import { Icon, type IconName, Logo } from "./Icon";
import { Mark } from "./Mark";
import { useShortcuts } from "./shortcuts";

export interface Place {
  to: string;
  name: string;
  short: string;
  icon: IconName;
  key: string;
}

export const PLACES: Place[] = [
  { to: "/", name: "Overview", short: "Overview", icon: "home", key: "o" },
  { to: "/instances", name: "Instances", short: "Instances", icon: "instances", key: "i" },
  { to: "/migrations", name: "Migrations", short: "Moves", icon: "moves", key: "m" },
  { to: "/tenants", name: "Tenants", short: "Tenants", icon: "tenants", key: "t" },
  { to: "/audit", name: "Audit", short: "Audit", icon: "audit", key: "a" },
];

export function Shell({ children }: { children: ReactNode }) {
  const help = useShortcuts();
  return (
    <div className="shell">
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <Rail />
      <TopBar />
      <main id="content" className="content">
        {children}
      </main>
      {help}
    </div>
  );
}

function Rail() {
  const { state } = useShown();
  const instances = useInstances();
  const badges: Record<string, number> = {
    "/instances": instances.length,
    "/migrations": state ? runningMoves(state).length : 0,
  };
  return (
    <nav className="rail" aria-label="Pages">
      <div className="brand">
        <Logo /> <span>Llumdeck</span>
      </div>
      {PLACES.map((place) => (
        <NavLink key={place.to} to={place.to} end={place.to === "/"} className="rail-link">
          <Icon name={place.icon} />
          <span className="rail-name">{place.name}</span>
          <span className="rail-short">{place.short}</span>
          {badges[place.to] ? <span className="badge">{count(badges[place.to])}</span> : null}
        </NavLink>
      ))}
      <Person />
    </nav>
  );
}

function Person() {
  const me = useMe();
  const signOut = useSignOut();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Menu position="top-start" width={200}>
      <Menu.Target>
        <button type="button" className="rail-link person">
          <span className="avatar" aria-hidden>
            {me.username.slice(0, 2).toUpperCase()}
          </span>
          <span className="rail-name">
            {me.username} <span className="t3">{me.role}</span>
          </span>
          <span className="rail-short">You</span>
        </button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>Theme</Menu.Label>
        {(["auto", "light", "dark"] as const).map((scheme) => (
          <Menu.Item key={scheme} onClick={() => setColorScheme(scheme)}>
            {{ auto: "System", light: "Light", dark: "Dark" }[scheme]}
            {colorScheme === scheme ? " ✓" : ""}
          </Menu.Item>
        ))}
        <Menu.Divider />
        <Menu.Item onClick={() => void signOut()}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function TopBar() {
  const { state, screenNow, pausedAt } = useShown();
  const store = useLiveStore();
  const instances = useInstances();
  const found = state ? situation(state, instances, screenNow) : null;
  return (
    <header className="topbar">
      <span className="brand topbar-brand">
        <Logo />
      </span>
      <PoolPicker />
      <span className="topbar-health">
        {found && (
          <>
            <Mark shape={found.level} /> <span>{found.brief}</span>
          </>
        )}
      </span>
      <ConnectionLabel />
      <button
        type="button"
        className="btn small"
        aria-pressed={pausedAt !== null}
        onClick={store.togglePause}
      >
        {pausedAt === null ? "Pause" : "Resume"}
      </button>
      <span className="topbar-clock t3">{clock(screenNow)} UTC</span>
    </header>
  );
}

function PoolPicker() {
  const { pools, pool, choose } = usePool();
  if (pools.length < 2) {
    return (
      <span className="pool t3">
        Pool <b>{pools[0] ?? "–"}</b>
      </span>
    );
  }
  return (
    <label className="pool t3">
      Pool{" "}
      <select value={pool ?? ""} onChange={(event) => choose(event.target.value || null)}>
        <option value="">all {pools.length}</option>
        {pools.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}
