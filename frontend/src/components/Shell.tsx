import { type ReactNode, useEffect, useRef, useState } from "react";
import { NavLink, useLocation } from "react-router";
import { runningMoves, totals } from "../lib/fleet";
import { clock, count } from "../lib/format";
import { PLACES, type Place, placeName, SETTINGS, TABS } from "../lib/places";
import { RANGES, rangeOf } from "../lib/range";
import { situation } from "../lib/situation";
import { useLiveStore, useShown } from "../live/context";
import { useInstances, usePool } from "../live/pool";
import { useScope } from "../live/scope";
import { useMe } from "../session";
import { ConnectionLabel } from "./ConnectionLabel";
import { Icon, Logo } from "./Icon";
import { Mark } from "./Mark";
import { MoreSheet } from "./MoreSheet";
import { PersonMenu } from "./PersonMenu";
import { usePalette } from "./palette/PaletteProvider";
import { useShortcuts } from "./shortcuts";

export function Shell({ children }: { children: ReactNode }) {
  const help = useShortcuts();
  useArrival();
  return (
    <div className="shell">
      <a className="skip" href="#content">
        Skip to the content
      </a>
      <Rail />
      <TopBar />
      <main id="content" className="content" tabIndex={-1}>
        {children}
      </main>
      {help}
    </div>
  );
}

/** On a new screen: its name in the title, its top in sight, and the keyboard in it unless something has it. */
function useArrival() {
  const { pathname } = useLocation();
  const before = useRef(pathname);
  useEffect(() => {
    document.title = `${placeName(pathname)} · Llumdeck`;
    if (before.current === pathname) return;
    before.current = pathname;
    window.scrollTo(0, 0);
    if (document.activeElement === document.body)
      document.getElementById("content")?.focus({ preventScroll: true });
  }, [pathname]);
}

function Rail() {
  const { state, screenNow } = useShown();
  const instances = useInstances();
  const [more, setMore] = useState(false);
  const sums = totals(instances, screenNow);
  const badges: Record<string, number> = {
    "/instances": instances.length,
    "/requests": sums.running + sums.waiting,
    "/migrations": state ? runningMoves(state).length : 0,
    "/alerts": state?.firing.length ?? 0,
  };
  return (
    <nav className="rail" aria-label="Pages">
      <div className="brand">
        <Logo /> <span>Llumdeck</span>
      </div>
      {PLACES.map((place) => (
        <RailLink key={place.to} place={place} badge={badges[place.to] ?? 0} />
      ))}
      <div className="rail-foot">
        <RailLink place={SETTINGS} badge={0} />
      </div>
      <button type="button" className="rail-link rail-more" onClick={() => setMore(true)}>
        <Icon name="more" />
        <span className="rail-short">More</span>
      </button>
      <MoreSheet opened={more} onClose={() => setMore(false)} />
    </nav>
  );
}

function RailLink({ place, badge }: { place: Place; badge: number }) {
  const tab = TABS.includes(place.to) ? "is-tab" : "";
  const urgent = place.to === "/alerts" ? "is-urgent" : "";
  return (
    <NavLink to={place.to} end={place.to === "/"} className={`rail-link ${tab}`}>
      <Icon name={place.icon} />
      <span className="rail-name">{place.name}</span>
      <span className="rail-short">{place.short}</span>
      {badge ? <span className={`badge ${urgent}`}>{count(badge)}</span> : null}
    </NavLink>
  );
}

function TopBar() {
  const { state, screenNow, pausedAt } = useShown();
  const store = useLiveStore();
  const me = useMe();
  const palette = usePalette();
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
      <RangePicker />
      <button type="button" className="btn small search wide" onClick={palette.open}>
        <span className="t3">Search or act</span> <kbd>Ctrl K</kbd>
      </button>
      <span className="topbar-clock t3">{clock(screenNow)} UTC</span>
      <PersonMenu me={me} />
    </header>
  );
}

/** How far back lists and sums look: one setting for all screens. */
function RangePicker() {
  const { range, chooseRange } = useScope();
  return (
    <label className="pool range">
      <span className="visually-hidden">Time range of lists and sums</span>
      <select value={range} onChange={(event) => chooseRange(rangeOf(event.target.value))}>
        {Object.entries(RANGES).map(([key, { words }]) => (
          <option key={key} value={key}>
            {words}
          </option>
        ))}
      </select>
    </label>
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
