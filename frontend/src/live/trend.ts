import { useEffect, useRef, useState } from "react";
import { useLiveStore } from "./context";
import type { HistoryFrame } from "./types";

const EVERY_MS = { instance: 2_000, class: 10_000 };

/** The last minutes of one subject as the server remembers them, asked again as they grow. */
export function useHistory(of: HistoryFrame["of"], id: string): HistoryFrame | null {
  const store = useLiveStore();
  const [frame, setFrame] = useState<HistoryFrame | null>(null);
  const paused = useRef(false);
  paused.current = store.getView().pausedAt !== null;
  useEffect(() => {
    const stop = store.onHistory((answer) => {
      if (answer.of === of && answer.id === id && !paused.current) setFrame(answer);
    });
    store.askHistory(of, id);
    const timer = setInterval(() => store.askHistory(of, id), EVERY_MS[of]);
    return () => {
      stop();
      clearInterval(timer);
    };
  }, [store, of, id]);
  return frame;
}

/** One column of a history. */
export function useTrend(of: HistoryFrame["of"], id: string, field: string): (number | null)[] {
  const frame = useHistory(of, id);
  const column = frame ? frame.fields.indexOf(field) : -1;
  return frame && column >= 0 ? frame.points.map((point) => point[column] ?? null) : [];
}
