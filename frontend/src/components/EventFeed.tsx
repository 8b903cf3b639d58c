import { Link } from "react-router";
import { clock, fullTime } from "../lib/format";
import type { FeedEvent } from "../live/types";
import { Mark } from "./Mark";

/** Newest first; each line leads to what it speaks of. */
export function EventFeed({ events }: { events: readonly FeedEvent[] }) {
  return (
    <section className="card feed" aria-label="events">
      <div className="card-head">
        <h2>Events</h2>
        <Link className="aside" to="/migrations">
          All moves
        </Link>
      </div>
      {events.length === 0 ? (
        <p className="empty detail">Nothing has happened since this console started.</p>
      ) : (
        <ol>
          {newestFirst(events).map((event) => (
            <li key={event.id}>
              <time className="t3" title={fullTime(event.at)}>
                {clock(event.at)}
              </time>
              <Mark shape={event.kind} size={13} />
              {event.link ? <Link to={event.link}>{event.text}</Link> : <span>{event.text}</span>}
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function newestFirst(events: readonly FeedEvent[]): FeedEvent[] {
  return [...events].sort((a, b) => b.at - a.at || b.id - a.id);
}
