import { lazy, Suspense } from "react";
import { Link, Navigate, Route, Routes } from "react-router";
import { DialogProvider } from "./components/dialogs/DialogProvider";
import { Logo } from "./components/Icon";
import { NoticeProvider } from "./components/Notices";
import { PersonMenu } from "./components/PersonMenu";
import { LiveProvider } from "./live/context";
import { useMe } from "./session";

const TenantPage = lazy(() => import("./pages/TenantPage"));
const ProfilePage = lazy(() => import("./pages/settings/ProfilePage"));

/** What a tenant's owner sees: the own tenants and oneself; the fleet is not theirs to look at. */
export function OwnerApp() {
  const me = useMe();
  const first = me.tenants[0];
  return (
    <LiveProvider connected={false}>
      <NoticeProvider>
        <DialogProvider>
          <div className="owner">
            <header className="topbar">
              <Logo /> <b>Llumdeck</b>
              <nav className="row" aria-label="Pages">
                {me.tenants.map((slug) => (
                  <Link key={slug} to={`/tenants/${slug}`}>
                    {slug}
                  </Link>
                ))}
              </nav>
              <span className="push" />
              <PersonMenu me={me} />
            </header>
            <main className="content" id="content">
              <Suspense fallback={<div className="skeleton" style={{ height: 240 }} />}>
                <Routes>
                  <Route path="/tenants/:slug" element={<TenantPage />} />
                  <Route path="/settings/*" element={<ProfilePage />} />
                  <Route
                    path="*"
                    element={first ? <Navigate to={`/tenants/${first}`} replace /> : <NoTenant />}
                  />
                </Routes>
              </Suspense>
            </main>
          </div>
        </DialogProvider>
      </NoticeProvider>
    </LiveProvider>
  );
}

function NoTenant() {
  return <p className="card empty">Your account has no role and no tenant yet; an admin can give it one.</p>;
}
