// The live protocol (WebSocket /ws/v1/live). Its shapes are generated from the server's; what is here
// only puts them together.

import type {
  Gateway,
  HistoryFrame,
  Instance,
  Migration,
  Resident,
  SloClass,
  Snapshot,
  SnapshotFrame,
} from "./generated";

export type * from "./generated";

type Ids = Partial<Record<"instances" | "gateways" | "classes" | "migrations" | "residents", string[]>>;
type Heard = Partial<Record<"instances" | "gateways" | "residents", Record<string, number>>>;

/** Something new as a whole; of something known its id and the fields that changed. */
export interface Changes {
  instances?: (Partial<Instance> & { id: string })[];
  gateways?: (Partial<Gateway> & { id: string })[];
  classes?: (Partial<SloClass> & { name: string })[];
  migrations?: (Partial<Migration> & { id: string })[];
  residents?: (Partial<Resident> & { id: string })[];
}

export interface DeltaFrame extends Changes, Partial<Omit<Snapshot, keyof Changes>> {
  type: "delta";
  seq: number;
  at: number;
  heard?: Heard;
  gone?: Ids;
}

export type Frame = SnapshotFrame | DeltaFrame | HistoryFrame;
