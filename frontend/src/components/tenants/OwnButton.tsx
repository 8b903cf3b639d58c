import { useMe } from "../../session";
import { ActionButton, type ActionProps } from "../ActionButton";

/** For what admins may everywhere, and a tenant's owner on the own tenant: keys, limits, members. */
export function OwnButton(props: ActionProps) {
  const me = useMe();
  const may = me.role === "admin" || me.role === "tenant_owner";
  return <ActionButton {...props} blocked={may ? (props.blocked ?? "") : "needs role admin"} />;
}
