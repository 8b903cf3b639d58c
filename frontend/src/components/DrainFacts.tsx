import type { DrainImpact } from "../lib/drain";
import { count, durationParts } from "../lib/format";
import { Mark } from "./Mark";
import { Stat } from "./Stat";

const ROOMS_SHOWN = 5;

/** The gaps elsewhere, largest first, beside what is to be housed. */
function Room({ impact }: { impact: DrainImpact }) {
  const most = Math.max(1, impact.usedTokens, impact.largestElsewhere);
  return (
    <table className="table tight room" aria-label="room elsewhere">
      <tbody>
        {impact.others.slice(0, ROOMS_SHOWN).map((other) => (
          <tr key={other.id}>
            <td className="nowrap">{other.id}</td>
            <td className="room-bar">
              <span className="thin-track">
                <span className="thin-fill" style={{ width: `${(other.tokens / most) * 100}%` }} />
              </span>
            </td>
            <td className="num nowrap">{count(other.tokens)} free</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The numbers of a drain, and what it does not solve. */
export function DrainFacts({ id, impact }: { id: string; impact: DrainImpact }) {
  const about = impact.aboutMs === null ? null : durationParts(Math.max(100, impact.aboutMs));
  return (
    <>
      <div className="impact">
        <Stat value={count(impact.running)} caption="running requests move" />
        <Stat value={count(impact.waiting)} caption="waiting go elsewhere" />
        <Stat
          value={about ? about.value : "–"}
          unit={about ? about.unit : ""}
          caption={about ? "about, of copying" : "time not known yet"}
        />
        <Stat value="0" caption="dropped" />
      </div>
      {impact.others.length > 0 && (
        <p className="detail t2">
          They hold {count(impact.usedTokens)} tokens.{" "}
          {impact.others.length === 1
            ? "The other instance that takes"
            : `${count(impact.others.length)} others that take`}{" "}
          work {impact.others.length === 1 ? "has" : "have"} {count(impact.freeElsewhere)} free, the largest
          gap {count(impact.largestElsewhere)} on {impact.others[0]?.id}.
        </p>
      )}
      {impact.others.length > 0 && <Room impact={impact} />}
      {!impact.fits && (
        <div className="note">
          <Mark shape="risk" />
          <span>
            {impact.others.length === 0 ? (
              <>
                <b>No other instance takes work.</b> Requests on {id} go on there to their end, and new ones
                wait.
              </>
            ) : (
              <>
                <b>Not everything has room now.</b> What does not fit elsewhere goes on at {id} until it ends
                or room appears.
              </>
            )}
          </span>
        </div>
      )}
    </>
  );
}
