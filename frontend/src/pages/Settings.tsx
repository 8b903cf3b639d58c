import { Navigate, NavLink, Route, Routes } from "react-router";
import { useMe } from "../session";
import { Appearance } from "./settings/Appearance";
import { People } from "./settings/People";
import { Profile } from "./settings/Profile";
import { Rules } from "./settings/Rules";
import { System } from "./settings/System";
import { Tokens } from "./settings/Tokens";

/** Oneself, the look, people, machines, what watches the fleet, the system. */
export default function Settings() {
  const me = useMe();
  const tabs = [
    ["profile", "Profile"],
    ["appearance", "Appearance"],
    ...(me.may_administer
      ? ([
          ["people", "People"],
          ["tokens", "Machine tokens"],
        ] as const)
      : []),
    ["rules", "Alert rules"],
    ["system", "System"],
  ] as const;
  return (
    <>
      <div className="page-head">
        <h1>Settings</h1>
      </div>
      <nav className="tabs" aria-label="Settings">
        {tabs.map(([path, name]) => (
          <NavLink key={path} to={`/settings/${path}`}>
            {name}
          </NavLink>
        ))}
      </nav>
      <Routes>
        <Route index element={<Navigate to="/settings/profile" replace />} />
        <Route path="profile" element={<Profile />} />
        <Route path="appearance" element={<Appearance />} />
        <Route path="people" element={<People />} />
        <Route path="tokens" element={<Tokens />} />
        <Route path="rules" element={<Rules />} />
        <Route path="system" element={<System />} />
        <Route path="*" element={<Navigate to="/settings/profile" replace />} />
      </Routes>
    </>
  );
}
