import { useEffect, useRef, useState } from "react";
import type { LiveState } from "../live/reducer";
import type { Migration } from "../live/types";
import { plural } from "./format";

const EVERY_MS = 5_000;

/** A sentence for screen readers about moves that began or ended, at most every five seconds. */
export function useAnnouncement(state: LiveState): string {
  const [sentence, say] = useState("");
  const latest = useRef(state.migrations);
  latest.current = state.migrations;
  useEffect(() => {
    let told = latest.current;
    const timer = setInterval(() => {
      const words = movesWords(told, latest.current);
      told = latest.current;
      if (words) say(words);
    }, EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return sentence;
}

/** What happened to moves between two states; empty when nothing did. */
export function movesWords(
  before: ReadonlyMap<string, Migration>,
  after: ReadonlyMap<string, Migration>,
): string {
  let [began, ended, stopped] = [0, 0, 0];
  for (const [id, move] of after) {
    const known = before.get(id);
    if (!known) began += 1;
    if (move.ended_at !== null && known?.ended_at === null) {
      if (move.state === "done") ended += 1;
      else stopped += 1;
    }
  }
  const parts = [];
  if (began) parts.push(`${plural(began, "move")} began`);
  if (ended) parts.push(`${plural(ended, "move")} finished`);
  if (stopped) parts.push(`${plural(stopped, "move")} stopped`);
  return parts.length ? `${parts.join(", ")}.` : "";
}
