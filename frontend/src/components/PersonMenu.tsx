import { Menu, useMantineColorScheme } from "@mantine/core";
import { Link } from "react-router";
import type { Me } from "../api/types";
import { useSignOut } from "../session";

export const SCHEMES = { auto: "System", light: "Light", dark: "Dark" } as const;
export type Scheme = keyof typeof SCHEMES;

function roleWords(role: string | null): string {
  return role ? role.replaceAll("_", " ") : "no role";
}

/** Who is signed in, the theme, the way out. */
export function PersonMenu({ me }: { me: Me }) {
  const signOut = useSignOut();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Menu position="bottom-end" width={200}>
      <Menu.Target>
        <button type="button" className="person">
          <span className="avatar" aria-hidden>
            {me.username.slice(0, 2).toUpperCase()}
          </span>
          <span className="visually-hidden">{me.username} </span>
          <span className="wide">{roleWords(me.role)}</span>
        </button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {me.username}, {roleWords(me.role)}
        </Menu.Label>
        <Menu.Item component={Link} to="/settings/profile">
          Profile and second factor
        </Menu.Item>
        <Menu.Label>Theme</Menu.Label>
        {(Object.keys(SCHEMES) as Scheme[]).map((scheme) => (
          <Menu.Item key={scheme} onClick={() => setColorScheme(scheme)}>
            {SCHEMES[scheme]}
            {colorScheme === scheme ? " ✓" : ""}
          </Menu.Item>
        ))}
        <Menu.Divider />
        <Menu.Item onClick={() => void signOut()}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
