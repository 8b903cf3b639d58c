import { type ReactNode, useEffect, useState } from "react";
import { useNavigate } from "react-router";
import { PLACES, SETTINGS } from "../lib/places";
import { useLiveStore } from "../live/context";
import { Sheet } from "./dialogs/Sheet";

const JUMP_MS = 1_200;
const JUMPS = [...PLACES, SETTINGS];
const OTHERS = [
  ["p", "pause and resume the screen"],
  ["/", "filter the list; Esc leaves it"],
  ["t", "map or table (cluster)"],
  ["Ctrl K", "search or act"],
  ["?", "these keys"],
] as const;

/** `g` then a letter jumps, `p` pauses, `/` filters, `?` shows this. Returns the help sheet. */
export function useShortcuts(): ReactNode {
  const navigate = useNavigate();
  const store = useLiveStore();
  const [open, setOpen] = useState(false);
  useEffect(() => {
    let jumpUntil = 0;
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      const place = performance.now() < jumpUntil && JUMPS.find((each) => each.key === event.key);
      jumpUntil = 0;
      if (place) {
        // The page's own keys must not take the second letter of a jump.
        event.stopImmediatePropagation();
        navigate(place.to);
      } else if (event.key === "g") jumpUntil = performance.now() + JUMP_MS;
      else if (event.key === "p") store.togglePause();
      else if (event.key === "?") setOpen(true);
      else if (event.key === "/") {
        const field = document.querySelector<HTMLInputElement>("input[data-filter]");
        if (!field) return;
        event.preventDefault();
        field.focus();
      }
    };
    window.addEventListener("keydown", onKey, { capture: true });
    return () => window.removeEventListener("keydown", onKey, { capture: true });
  }, [navigate, store]);
  return (
    <Sheet title="Keys" opened={open} onClose={() => setOpen(false)}>
      <dl className="facts keys">
        {JUMPS.map((place) => (
          <div key={place.key}>
            <dt>
              <kbd>g</kbd> <kbd>{place.key}</kbd>
            </dt>
            <dd>{place.name}</dd>
          </div>
        ))}
        {OTHERS.map(([key, words]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
    </Sheet>
  );
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input, textarea, select, [role=dialog]") !== null;
}
