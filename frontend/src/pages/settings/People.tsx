import { Select, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { get, getVersioned, type Page, patch, post } from "../../api/client";
import type { Person, PersonCreated } from "../../api/shapes";
import { type Column, DataTable } from "../../components/DataTable";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { FormDialog } from "../../components/dialogs/FormDialog";
import { ProblemNote } from "../../components/dialogs/Problem";
import { ReasonField } from "../../components/dialogs/Reason";
import { fieldError } from "../../components/tenants/forms";
import { OnceShown } from "../../components/tenants/OnceShown";
import { moment } from "../../lib/format";

const ROLES = [
  { value: "viewer", label: "viewer: sees everything, changes nothing" },
  { value: "operator", label: "operator: drains, migrates, sets classes and policies" },
  { value: "admin", label: "admin: also tenants, keys and people" },
];

/** Who may sign in, as what. */
export function People() {
  const open = useDialog();
  const people = useQuery({
    queryKey: ["people"],
    queryFn: async () => (await get<Page<Person>>("people?limit=200")).results,
  });
  const now = Date.now() / 1000;
  const columns: Column<Person>[] = [
    { head: "User", className: "strong", cell: (row) => row.username },
    { head: "Role", cell: (row) => `${row.role ?? "none"}${row.active ? "" : ", closed"}` },
    { head: "Owns", className: "t2", cell: (row) => row.owns.join(", ") || "–" },
    { head: "Second factor", className: "t2", cell: (row) => (row.second_factor ? "on" : "off") },
    {
      head: "Last signed in",
      className: "t2 nowrap",
      cell: (row) => (row.last_login ? moment(Date.parse(row.last_login) / 1000, now) : "never"),
    },
    {
      head: "Action",
      bare: true,
      num: true,
      className: "nowrap",
      cell: (row) => (
        <button
          type="button"
          className="btn small quiet"
          onClick={() => open({ kind: "form", content: (close) => <EditPerson row={row} onClose={close} /> })}
        >
          Change…
        </button>
      ),
    },
  ];
  return (
    <section className="card" aria-label="people">
      <div className="card-head">
        <h2>People</h2>
        <span className="aside">
          <button
            type="button"
            className="btn small"
            onClick={() => open({ kind: "form", content: (close) => <NewPerson onClose={close} /> })}
          >
            Add a person…
          </button>
        </span>
      </div>
      <ProblemNote error={people.error} />
      <DataTable
        columns={columns}
        rows={people.data ?? []}
        rowKey={(row) => row.username}
        rowClass={(row) => (row.active ? "" : "t3")}
      />
    </section>
  );
}

function NewPerson({ onClose }: { onClose: () => void }) {
  const [username, setUsername] = useState("");
  const [role, setRole] = useState("viewer");
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title="Add a person"
      verb={username ? `Add ${username}` : "Add"}
      disabled={username === ""}
      onClose={onClose}
      run={() => post<PersonCreated>("people", { username, role, change_reason: reason })}
      done={null}
      after={(row) => <OnceShown what="password" value={row.password ?? ""} onClose={onClose} />}
      touches={["people"]}
    >
      {(error) => (
        <>
          <TextInput
            label="User"
            value={username}
            onChange={(event) => setUsername(event.currentTarget.value)}
            error={fieldError(error, "username")}
            data-autofocus
          />
          <Select
            label="Role"
            data={ROLES}
            value={role}
            onChange={(value) => setRole(value ?? "viewer")}
            allowDeselect={false}
            error={fieldError(error, "role")}
          />
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}

function EditPerson({ row, onClose }: { row: Person; onClose: () => void }) {
  const [role, setRole] = useState(row.role ?? "");
  const [active, setActive] = useState(row.active);
  const [reason, setReason] = useState("");
  return (
    <FormDialog
      title={row.username}
      verb="Change"
      onClose={onClose}
      run={async () => {
        const found = await getVersioned<Person>(`people/${row.username}`);
        return patch<Person>(
          `people/${row.username}`,
          { role: role || null, active, change_reason: reason },
          found.etag,
        );
      }}
      done={() => `${row.username} is changed; a closed account is signed out within seconds.`}
      touches={["people"]}
    >
      {(error) => (
        <>
          <Select
            label="Role"
            data={[{ value: "", label: "none across the fleet" }, ...ROLES]}
            value={role}
            onChange={(value) => setRole(value ?? "")}
            allowDeselect={false}
            error={fieldError(error, "role")}
          />
          <label className="row">
            <input
              type="checkbox"
              checked={active}
              onChange={(event) => setActive(event.currentTarget.checked)}
            />{" "}
            may sign in
          </label>
          <ReasonField value={reason} onChange={setReason} />
        </>
      )}
    </FormDialog>
  );
}
