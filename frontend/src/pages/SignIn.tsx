import { PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ApiError, get, post } from "../api/client";
import type { SignedIn, SignInOptions } from "../api/shapes";
import { ProblemNote } from "../components/dialogs/Problem";
import { Logo } from "../components/Icon";

export function SignIn() {
  const queries = useQueryClient();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [needsCode, setNeedsCode] = useState(false);
  const options = useQuery({
    queryKey: ["sign-in-options"],
    queryFn: () => get<SignInOptions>("session/options"),
    retry: false,
  });
  const signIn = useMutation({
    mutationFn: () => post<SignedIn>("session", { username, password, ...(needsCode ? { code } : {}) }),
    onSuccess: (answer) => {
      if (answer.second_factor) setNeedsCode(true);
      else void queries.invalidateQueries({ queryKey: ["me"] });
    },
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
        {needsCode && (
          <TextInput
            label="Code"
            description="six digits of your authenticator, or a recovery code"
            name="code"
            autoComplete="one-time-code"
            autoFocus
            value={code}
            error={field("code")}
            onChange={(event) => setCode(event.currentTarget.value)}
          />
        )}
        {!(signIn.error instanceof ApiError && signIn.error.problem.errors?.length) && (
          <ProblemNote error={signIn.error} />
        )}
        <button type="submit" className="btn primary" disabled={signIn.isPending}>
          {signIn.isPending ? "Signing in…" : "Sign in"}
        </button>
        {options.data?.oidc.map((provider) => (
          <a key={provider.id} className="btn" href={provider.login_url}>
            Sign in with {provider.name}
          </a>
        ))}
        <p className="caption">
          The first password is printed once when the system starts for the first time.
        </p>
      </form>
    </main>
  );
}
