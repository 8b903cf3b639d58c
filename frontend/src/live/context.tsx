import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useState,
  useSyncExternalStore,
} from "react";
import { LiveStore, type View } from "./store";
import type { Topic } from "./types";

const StoreContext = createContext<LiveStore | null>(null);

/** Holds the one live connection while somebody is signed in. */
export function LiveProvider({ children, connected = true }: { children: ReactNode; connected?: boolean }) {
  const [store] = useState(() => new LiveStore());
  useEffect(() => {
    if (!connected) return;
    const scheme = window.location.protocol === "https:" ? "wss" : "ws";
    store.start(`${scheme}://${window.location.host}/ws/v1/live`);
    return () => store.stop();
  }, [store, connected]);
  return <StoreContext.Provider value={store}>{children}</StoreContext.Provider>;
}

export function useLiveStore(): LiveStore {
  const store = useContext(StoreContext);
  if (store === null) throw new Error("useLiveStore outside LiveProvider");
  return store;
}

export function useView(): View {
  const store = useLiveStore();
  return useSyncExternalStore(store.subscribe, store.getView);
}

/** Subscribe to a topic while the component is shown and `wanted`. */
export function useTopic(topic: Topic, wanted = true): void {
  const store = useLiveStore();
  useEffect(() => (wanted ? store.want(topic) : undefined), [store, topic, wanted]);
}

/** The live view with the screen's time: while paused, ages stand still too. */
export function useShown(): View & { screenNow: number } {
  const view = useView();
  return useMemo(() => ({ ...view, screenNow: view.pausedAt ?? view.now }), [view]);
}
