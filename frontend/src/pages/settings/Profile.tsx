import { PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { get, post, remove } from "../../api/client";
import type { RecoveryCodes, Totp, TotpBegun } from "../../api/shapes";
import { useDialog } from "../../components/dialogs/DialogProvider";
import { ProblemNote } from "../../components/dialogs/Problem";
import { Mark } from "../../components/Mark";
import { useSay } from "../../components/Notices";
import { fieldError } from "../../components/tenants/forms";
import { plural } from "../../lib/format";
import { useMe } from "../../session";

export function Profile() {
  const me = useMe();
  return (
    <div className="grid split">
      <section className="card" aria-label="account">
        <div className="card-head">
          <h2>{me.username}</h2>
          <span className="t3">
            {me.role ? me.role.replace("_", " ") : "no role across the fleet"}
            {me.tenants?.length ? `, owner of ${me.tenants.join(", ")}` : ""}
          </span>
        </div>
        <Password />
      </section>
      <SecondFactor />
    </div>
  );
}

function Password() {
  const say = useSay();
  const [before, setBefore] = useState("");
  const [after, setAfter] = useState("");
  const change = useMutation({
    mutationFn: () => post("me/password", { old_password: before, new_password: after }),
    onSuccess: () => {
      say({ kind: "good", text: "Your password is changed; other sessions were signed out." });
      setBefore("");
      setAfter("");
    },
  });
  return (
    <form
      className="card-body form"
      onSubmit={(event) => {
        event.preventDefault();
        change.mutate();
      }}
    >
      <PasswordInput
        label="Present password"
        autoComplete="current-password"
        value={before}
        onChange={(event) => setBefore(event.currentTarget.value)}
        error={fieldError(change.error, "old_password")}
      />
      <PasswordInput
        label="New password"
        description="at least 12 characters, none of the common ones"
        autoComplete="new-password"
        value={after}
        onChange={(event) => setAfter(event.currentTarget.value)}
        error={fieldError(change.error, "new_password")}
      />
      <ProblemNote error={change.error} />
      <div className="form-actions">
        <button type="submit" className="btn" disabled={!before || !after || change.isPending}>
          Change the password
        </button>
      </div>
    </form>
  );
}

function SecondFactor() {
  const open = useDialog();
  const queries = useQueryClient();
  const totp = useQuery({ queryKey: ["totp"], queryFn: () => get<Totp>("me/totp") });
  const begin = useMutation({ mutationFn: () => post<TotpBegun>("me/totp") });
  const [codes, setCodes] = useState<string[] | null>(null);
  const done = (answer: RecoveryCodes) => {
    setCodes(answer.recovery_codes);
    begin.reset();
    void queries.invalidateQueries({ queryKey: ["totp"] });
  };
  return (
    <section className="card" aria-label="second factor">
      <div className="card-head">
        <h2>Second factor</h2>
        <span className="t3">
          {totp.data?.active ? (
            <>
              <Mark shape="good" size={12} /> on, {plural(totp.data.recovery_codes_left, "recovery code")}{" "}
              left
            </>
          ) : (
            "off"
          )}
        </span>
      </div>
      <div className="card-body form">
        <ProblemNote error={totp.error ?? begin.error} />
        {codes ? (
          <Codes codes={codes} onClose={() => setCodes(null)} />
        ) : begin.data ? (
          <ConfirmTotp begun={begin.data} onDone={done} />
        ) : totp.data?.active ? (
          <>
            <p className="t2">Signing in asks for a code of your authenticator besides the password.</p>
            <div className="form-actions">
              <button
                type="button"
                className="btn danger"
                onClick={() =>
                  open({
                    kind: "confirm",
                    title: "Turn the second factor off?",
                    text: "Your password alone will be enough to sign in. Recovery codes stop working.",
                    verb: "Turn it off",
                    danger: true,
                    run: () => remove("me/totp"),
                    done: "The second factor is off.",
                    touches: ["totp"],
                  })
                }
              >
                Turn off…
              </button>
            </div>
          </>
        ) : (
          <>
            <p className="t2">An authenticator on your phone makes a stolen password useless.</p>
            <div className="form-actions">
              <button
                type="button"
                className="btn primary"
                onClick={() => begin.mutate()}
                disabled={begin.isPending}
              >
                Set up…
              </button>
            </div>
          </>
        )}
      </div>
    </section>
  );
}

function ConfirmTotp({ begun, onDone }: { begun: TotpBegun; onDone: (answer: RecoveryCodes) => void }) {
  const [code, setCode] = useState("");
  const confirm = useMutation({
    mutationFn: () => post<RecoveryCodes>("me/totp/confirm", { code }),
    onSuccess: onDone,
  });
  return (
    <form
      className="form"
      onSubmit={(event) => {
        event.preventDefault();
        confirm.mutate();
      }}
    >
      <p className="t2">
        Scan this with your authenticator, or type the secret in; then enter the code it shows.
      </p>
      <img
        className="qr"
        alt="QR code of the secret"
        src={`data:image/svg+xml;utf8,${encodeURIComponent(begun.qr_svg)}`}
      />
      <code className="mono">{begun.secret}</code>
      <TextInput
        label="Code"
        inputMode="numeric"
        autoComplete="one-time-code"
        value={code}
        onChange={(event) => setCode(event.currentTarget.value)}
        error={fieldError(confirm.error, "code")}
      />
      <ProblemNote error={confirm.error} />
      <div className="form-actions">
        <button type="submit" className="btn primary" disabled={code.length < 6 || confirm.isPending}>
          Turn on
        </button>
      </div>
    </form>
  );
}

function Codes({ codes, onClose }: { codes: string[]; onClose: () => void }) {
  return (
    <div className="form">
      <div className="note">
        <Mark shape="risk" />
        <span>
          <b>Recovery codes, shown only now.</b> Each signs you in once when the phone is lost.
        </span>
      </div>
      <ul className="codes mono">
        {codes.map((code) => (
          <li key={code}>{code}</li>
        ))}
      </ul>
      <div className="form-actions">
        <button type="button" className="btn primary" onClick={onClose}>
          I have kept them
        </button>
      </div>
    </div>
  );
}
