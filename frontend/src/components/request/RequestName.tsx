import { Link } from "react-router";
import { tenantColor } from "../../lib/tenants";
import { shortId } from "../../lib/words";
import type { LiveState } from "../../live/reducer";
import { ClassMark } from "../ClassMark";

/** A request's id behind the mark of its class in the colour of its tenant. */
export function RequestName({
  id,
  sloClass,
  tenant,
  state,
}: {
  id: string;
  sloClass: string;
  tenant: string;
  state: LiveState;
}) {
  return (
    <span className="nowrap">
      <ClassMark name={sloClass} color={tenantColor(state.tenants, tenant)} />{" "}
      <Link className="mono" to={`/requests/${encodeURIComponent(id)}`} title={id}>
        {shortId(id)}
      </Link>
    </span>
  );
}
