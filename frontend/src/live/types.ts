// The live protocol (WebSocket /ws/v1/live). Its shapes are generated from the server's; what is here
// only puts them together.

import type { HistoryFrame, Snapshot, SnapshotFrame } from "./generated";

export type * from "./generated";

type Ids = Partial<Record<"instances" | "gateways" | "classes" | "migrations" | "residents", string[]>>;
type Heard = Partial<Record<"instances" | "gateways" | "residents", Record<string, number>>>;

export interface DeltaFrame extends Partial<Snapshot> {
  type: "delta";
  seq: number;
  at: number;
  heard?: Heard;
  gone?: Ids;
}

export type Frame = SnapshotFrame | DeltaFrame | HistoryFrame;
