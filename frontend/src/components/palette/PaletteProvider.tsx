import { useMantineColorScheme } from "@mantine/core";
import {
  createContext,
  type KeyboardEvent as ReactKeyboardEvent,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useState,
} from "react";
import { useNavigate } from "react-router";
import { useLiveStore, useShown } from "../../live/context";
import { useInstances } from "../../live/pool";
import { useMe } from "../../session";
import { useDialog } from "../dialogs/DialogProvider";
import { Sheet } from "../dialogs/Sheet";
import { type Command, commandsFor, type Deed } from "./commands";

const PaletteContext = createContext({ open: () => {} });

/** `Ctrl K` or `⌘ K`: search and act from anywhere. */
export function PaletteProvider({ children }: { children: ReactNode }) {
  const [opened, setOpened] = useState(false);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      setOpened((now) => !now);
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  const value = useMemo(() => ({ open: () => setOpened(true) }), []);
  const close = useCallback(() => setOpened(false), []);
  return (
    <PaletteContext.Provider value={value}>
      {children}
      <Sheet title="Search or act" opened={opened} onClose={close}>
        {opened && <Palette onDone={close} />}
      </Sheet>
    </PaletteContext.Provider>
  );
}

export function usePalette() {
  return useContext(PaletteContext);
}

function Palette({ onDone }: { onDone: () => void }) {
  const { state } = useShown();
  const instances = useInstances();
  const me = useMe();
  const [text, setText] = useState("");
  const [place, setPlace] = useState(0);
  const perform = usePerform();
  const found = commandsFor(text, { instances, tenants: state?.tenants ?? [], mayAct: me.may_act });
  const active = Math.min(place, found.length - 1);
  const run = (command: Command | undefined) => {
    if (!command) return;
    onDone();
    perform(command.deed);
  };
  const onKey = (event: ReactKeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setPlace((active + step + found.length) % Math.max(1, found.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(found[active]);
    }
  };
  return (
    <div className="palette">
      <input
        className="field"
        role="combobox"
        aria-label="Search or act"
        aria-expanded
        aria-controls="palette-list"
        aria-activedescendant={found[active] ? `palette-${found[active].id}` : undefined}
        placeholder="drain i-3, tenant acme, an id …"
        data-autofocus
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          setPlace(0);
        }}
        onKeyDown={onKey}
      />
      <div id="palette-list" role="listbox" aria-label="What can be done">
        {found.map((command, index) => (
          <div
            key={command.id}
            id={`palette-${command.id}`}
            role="option"
            tabIndex={-1}
            aria-selected={index === active}
            className="palette-row"
            onMouseEnter={() => setPlace(index)}
            onClick={() => run(command)}
            onKeyDown={onKey}
          >
            <span>{command.words}</span> <span className="t3 detail">{command.hint}</span>
          </div>
        ))}
      </div>
      {found.length === 0 && (
        <p className="t2">Nothing matches. Try an instance, a tenant, a page or an id.</p>
      )}
    </div>
  );
}

function usePerform(): (deed: Deed) => void {
  const navigate = useNavigate();
  const open = useDialog();
  const store = useLiveStore();
  const { setColorScheme } = useMantineColorScheme();
  return (deed) => {
    switch (deed.kind) {
      case "go":
        navigate(deed.to);
        break;
      case "dialog":
        open(deed.call);
        break;
      case "pause":
        store.togglePause();
        break;
      case "theme":
        setColorScheme(deed.scheme);
    }
  };
}
