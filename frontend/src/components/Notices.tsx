import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { Mark } from "./Mark";

interface Notice {
  id: number;
  kind: "good" | "hurt";
  text: string;
  action?: { label: string; run: () => void };
}

type Say = (notice: Omit<Notice, "id">) => void;

const NoticeContext = createContext<Say>(() => undefined);
const SHOWN_MS = 12_000;
let nextId = 1;

/** Short answers to what somebody did, with an undo where there is one. */
export function NoticeProvider({ children }: { children: ReactNode }) {
  const [notices, setNotices] = useState<Notice[]>([]);
  const drop = useCallback((id: number) => setNotices((all) => all.filter((each) => each.id !== id)), []);
  const say = useCallback<Say>(
    (notice) => {
      const id = nextId++;
      setNotices((all) => [...all.slice(-2), { ...notice, id }]);
      setTimeout(() => drop(id), SHOWN_MS);
    },
    [drop],
  );
  const view = useMemo(
    () => (
      <div className="notices" role="status">
        {notices.map((notice) => (
          <div key={notice.id} className="card notice">
            <Mark shape={notice.kind} />
            <span>{notice.text}</span>
            {notice.action && (
              <button
                type="button"
                className="btn small"
                onClick={() => {
                  notice.action?.run();
                  drop(notice.id);
                }}
              >
                {notice.action.label}
              </button>
            )}
            <button
              type="button"
              className="btn small quiet"
              aria-label="Close"
              onClick={() => drop(notice.id)}
            >
              ×
            </button>
          </div>
        ))}
      </div>
    ),
    [notices, drop],
  );
  return (
    <NoticeContext.Provider value={say}>
      {children}
      {view}
    </NoticeContext.Provider>
  );
}

export function useSay(): Say {
  return useContext(NoticeContext);
}
