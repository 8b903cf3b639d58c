import type { MigrationSummary } from "../../api/shapes";
import { useUrlState } from "../../lib/urlState";
import { Segmented } from "../Choices";
import { Pairs } from "./Pairs";
import { Reasons, Rules } from "./Reasons";

type By = "reason" | "pair" | "rule";

interface SumsProps {
  sums: MigrationSummary | undefined;
  chosen: { source: string; destination: string };
  onChoose: (source: string, destination: string) => void;
}

/** The moves of the range, added up by how they ended, by pair or by what they were begun for. */
export function SumsCard({ sums, chosen, onChoose }: SumsProps) {
  const [by, setBy] = useUrlState<By>("by", "reason");
  return (
    <section className="card" aria-label="outcomes">
      <div className="card-head">
        <h2>Added up</h2>
        <span className="aside">
          <Segmented
            label="Added up by"
            value={by}
            options={[
              ["reason", "By outcome"],
              ["pair", "By pair"],
              ["rule", "By rule"],
            ]}
            onChange={setBy}
          />
        </span>
      </div>
      {!sums ? (
        <div className="skeleton" style={{ height: 120, margin: 14 }} />
      ) : sums.total === 0 ? (
        <p className="empty t2">No move in this time.</p>
      ) : by === "pair" ? (
        <Pairs pairs={sums.pairs} chosen={chosen} onChoose={onChoose} />
      ) : by === "rule" ? (
        <Rules sums={sums} />
      ) : (
        <Reasons sums={sums} />
      )}
    </section>
  );
}
