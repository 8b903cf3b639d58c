import { lazy, Suspense } from "react";
import { Route, Routes } from "react-router";
import { DialogProvider } from "./components/dialogs/DialogProvider";
import { NoticeProvider } from "./components/Notices";
import { PaletteProvider } from "./components/palette/PaletteProvider";
import { Shell } from "./components/Shell";
import { LiveProvider } from "./live/context";
import { Freshen } from "./live/Freshen";
import { ScopeProvider } from "./live/scope";
import { OwnerApp } from "./OwnerApp";
import { Overview } from "./pages/Overview";
import { SignIn } from "./pages/SignIn";
import { MeProvider, useSession } from "./session";

const Cluster = lazy(() => import("./pages/Cluster"));
const Requests = lazy(() => import("./pages/Requests"));
const RequestPage = lazy(() => import("./pages/RequestPage"));
const Scheduling = lazy(() => import("./pages/Scheduling"));
const Instances = lazy(() => import("./pages/Instances"));
const InstancePage = lazy(() => import("./pages/InstancePage"));
const Migrations = lazy(() => import("./pages/Migrations"));
const MigrationPage = lazy(() => import("./pages/MigrationPage"));
const Tenants = lazy(() => import("./pages/Tenants"));
const TenantPage = lazy(() => import("./pages/TenantPage"));
const Alerts = lazy(() => import("./pages/Alerts"));
const Settings = lazy(() => import("./pages/Settings"));
const Playground = lazy(() => import("./pages/Playground"));
const Audit = lazy(() => import("./pages/Audit"));
const Runbooks = lazy(() => import("./pages/Runbooks"));
const NotFound = lazy(() => import("./pages/NotFound"));

export function App() {
  const session = useSession();
  if (session.kind === "loading") return null;
  if (session.kind === "unreachable") return <Unreachable message={session.message} retry={session.retry} />;
  if (session.kind === "signed_out") return <SignIn />;
  if (session.me.role === null || session.me.role === "tenant_owner") {
    return (
      <MeProvider me={session.me}>
        <OwnerApp />
      </MeProvider>
    );
  }
  return (
    <MeProvider me={session.me}>
      <LiveProvider>
        <ScopeProvider>
          <NoticeProvider>
            <DialogProvider>
              <Freshen />
              <PaletteProvider>
                <Shell>
                  <Suspense fallback={<div className="skeleton" style={{ height: 240 }} />}>
                    <Routes>
                      <Route path="/" element={<Overview />} />
                      <Route path="/cluster" element={<Cluster />} />
                      <Route path="/instances" element={<Instances />} />
                      <Route path="/instances/:id" element={<InstancePage />} />
                      <Route path="/requests" element={<Requests />} />
                      <Route path="/requests/:id" element={<RequestPage />} />
                      <Route path="/scheduling/*" element={<Scheduling />} />
                      <Route path="/migrations" element={<Migrations />} />
                      <Route path="/migrations/:id" element={<MigrationPage />} />
                      <Route path="/tenants" element={<Tenants />} />
                      <Route path="/tenants/:slug" element={<TenantPage />} />
                      <Route path="/alerts" element={<Alerts />} />
                      <Route path="/settings/*" element={<Settings />} />
                      <Route path="/playground" element={<Playground />} />
                      <Route path="/audit" element={<Audit />} />
                      <Route path="/docs/runbooks" element={<Runbooks />} />
                      <Route path="*" element={<NotFound />} />
                    </Routes>
                  </Suspense>
                </Shell>
              </PaletteProvider>
            </DialogProvider>
          </NoticeProvider>
        </ScopeProvider>
      </LiveProvider>
    </MeProvider>
  );
}

function Unreachable({ message, retry }: { message: string; retry: () => void }) {
  return (
    <main className="sign-in">
      <div className="card card-body">
        <h1>The console does not answer</h1>
        <p className="t2">{message} Requests of tenants do not pass through the console and go on.</p>
        <button type="button" className="btn" onClick={retry}>
          Try again
        </button>
      </div>
    </main>
  );
}
