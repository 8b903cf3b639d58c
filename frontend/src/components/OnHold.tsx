import { age } from "../lib/format";
import type { Degraded } from "../live/types";
import { Mark } from "./Mark";

const WORKS = [
  ["Requests and streams", "also new ones; gateways dispatch on the last status and their own counts"],
  ["Keys, classes and limits", "read from the database"],
  ["Recovery of a dead engine", "each gateway recovers its own streams"],
  ["History, audit, tenants", "read from the database"],
] as const;

const WAITS = [
  ["Live map and memory", "the last that was seen, drawn grey and hatched"],
  ["Moves and drain", "the loop needs a fresh snapshot; nothing is planned blind"],
  ["Moves under way", "end between the engines; their outcomes arrive afterwards"],
] as const;

/** Redis is away: what still works, and what waits for it. */
export function OnHold({ redis, now }: { redis: NonNullable<Degraded["redis"]>; now: number }) {
  const wait = Math.max(0, redis.next_try_at - now);
  return (
    <div className="grid two-lists">
      <section className="card">
        <div className="card-head">
          <h2>Still works</h2>
          {redis.gateways && (
            <span className="aside">
              {redis.gateways.answered} of {redis.gateways.asked} gateways answer, asked{" "}
              {age(now - redis.gateways.at)} ago
            </span>
          )}
        </div>
        <ul>
          {WORKS.map(([name, detail]) => (
            <li key={name}>
              <Mark shape="good" /> <span>{name}</span> <span className="t3">{detail}</span>
            </li>
          ))}
        </ul>
      </section>
      <section className="card">
        <div className="card-head">
          <h2>On hold until Redis answers</h2>
          <span className="aside">
            {redis.error}; attempt {redis.attempts}, next in {age(wait)}
          </span>
        </div>
        <ul>
          {WAITS.map(([name, detail]) => (
            <li key={name}>
              <Mark shape="stopped" /> <span>{name}</span> <span className="t3">{detail}</span>
            </li>
          ))}
        </ul>
      </section>
    </div>
  );
}
