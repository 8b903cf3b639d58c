import { PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, post } from "../api/client";
import type { Me } from "../api/types";
import { ProblemNote } from "../components/dialogs/Problem";
import { Logo } from "../components/Icon";

export function SignIn() {
  const queries = useQueryClient();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const signIn = useMutation({
    mutationFn: () => post<Me>("session", { username, password }),
    onSuccess: (me) => queries.setQueryData(["me"], me),
  });
  const field = (name: string) => (signIn.error instanceof ApiError ? signIn.error.field(name) : undefined);
  return (
    <main className="sign-in">
      <form
        className="card form"
        onSubmit={(event) => {
          event.preventDefault();
          signIn.mutate();
        }}
      >
        <div className="row brand-large">
          <Logo /> <h1>Llumdeck</h1>
        </div>
        <TextInput
          label="User"
          name="username"
          autoComplete="username"
          autoFocus
          value={username}
          error={field("username")}
          onChange={(event) => setUsername(event.currentTarget.value)}
        />
        <PasswordInput
          label="Password"
          name="password"
          autoComplete="current-password"
          value={password}
          error={field("password")}
          onChange={(event) => setPassword(event.currentTarget.value)}
        />
        {!(signIn.error instanceof ApiError && signIn.error.problem.errors?.length) && (
          <ProblemNote error={signIn.error} />
        )}
        <button type="submit" className="btn primary" disabled={signIn.isPending}>
          {signIn.isPending ? "Signing in…" : "Sign in"}
        </button>
        <p className="caption">
          The first password is printed once when the system starts for the first time.
        </p>
      </form>
    </main>
  );
}
