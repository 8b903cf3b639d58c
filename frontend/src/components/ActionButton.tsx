import type { ReactNode } from "react";
import { useShown } from "../live/context";
import { useMe } from "../session";

export interface ActionProps {
  children: ReactNode;
  onClick: () => void;
  className?: string;
  /** Why it cannot be done now, apart from role and connection; empty when it can. */
  blocked?: string;
}

/** A button that acts on the fleet. Disabled, it stays in place and names its reason. */
export function ActionButton({ children, onClick, className = "", blocked = "" }: ActionProps) {
  const reason = useBlocked() || blocked;
  return (
    <button
      type="button"
      className={`btn ${className}`}
      aria-disabled={reason ? true : undefined}
      title={reason || undefined}
      onClick={reason ? undefined : onClick}
    >
      {children}
      {reason && <span className="why">{reason}</span>}
    </button>
  );
}

/** Why nobody could act now; empty when one can. */
export function useBlocked(): string {
  const me = useMe();
  const { state, connection } = useShown();
  // A tenant's owner acts on the own tenant alone; what goes beyond it the server refuses.
  if (!me.may_act && me.role !== "tenant_owner") return "needs role operator";
  if (connection.kind === "lost") return "waits for the console";
  if (state?.degraded.database) return "waits for the database";
  if (state?.degraded.redis) return "waits for Redis";
  return "";
}
