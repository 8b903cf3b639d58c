import { lazy, Suspense } from "react";
import { Route, Routes } from "react-router";
import { DialogProvider } from "./components/dialogs/DialogProvider";
import { NoticeProvider } from "./components/Notices";
import { Shell } from "./components/Shell";
import { LiveProvider } from "./live/context";
import { PoolProvider } from "./live/pool";
import { Overview } from "./pages/Overview";
import { SignIn } from "./pages/SignIn";
import { MeProvider, useSession } from "./session";

const Instances = lazy(() => import("./pages/Instances"));
const InstancePage = lazy(() => import("./pages/InstancePage"));
const Migrations = lazy(() => import("./pages/Migrations"));
const MigrationPage = lazy(() => import("./pages/MigrationPage"));
const Tenants = lazy(() => import("./pages/Tenants"));
const Audit = lazy(() => import("./pages/Audit"));
const NotFound = lazy(() => import("./pages/NotFound"));

export function App() {
  const session = useSession();
  if (session.kind === "loading") return null;
  if (session.kind === "unreachable") return <Unreachable message={session.message} retry={session.retry} />;
  if (session.kind === "signed_out") return <SignIn />;
  return (
    <MeProvider me={session.me}>
      <LiveProvider>
        <PoolProvider>
          <NoticeProvider>
            <DialogProvider>
              <Shell>
                <Suspense fallback={<div className="skeleton" style={{ height: 240 }} />}>
                  <Routes>
                    <Route path="/" element={<Overview />} />
                    <Route path="/instances" element={<Instances />} />
                    <Route path="/instances/:id" element={<InstancePage />} />
                    <Route path="/migrations" element={<Migrations />} />
                    <Route path="/migrations/:id" element={<MigrationPage />} />
                    <Route path="/tenants" element={<Tenants />} />
                    <Route path="/audit" element={<Audit />} />
                    <Route path="*" element={<NotFound />} />
                  </Routes>
                </Suspense>
              </Shell>
            </DialogProvider>
          </NoticeProvider>
        </PoolProvider>
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
