// What the page shows: the reduced state, the connection, the pause button, and the server's time.

import { type LiveState, reduce } from "./reducer";
import { type Connection, LiveSocket } from "./socket";
import type { Frame, HistoryFrame } from "./types";

export interface View {
  /** Null until the first snapshot. */
  state: LiveState | null;
  connection: Connection;
  /** Server time at which the screen was frozen, or null. */
  pausedAt: number | null;
  /** The server's time now, as far as can be told. */
  now: number;
  /** Seconds since the last frame arrived. */
  silentFor: number;
}

const TICK_MS = 500;

type Listener = () => void;
type HistoryListener = (frame: HistoryFrame) => void;

export class LiveStore {
  private listeners = new Set<Listener>();
  private historyListeners = new Set<HistoryListener>();
  private latest: LiveState | null = null;
  private frozen: LiveState | null = null;
  private pausedAt: number | null = null;
  private connection: Connection = { kind: "connecting", attempt: 0 };
  private receivedAt = 0;
  private waitingForSnapshot = false;
  private socket: LiveSocket | null = null;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private view: View;

  constructor(private readonly clock: () => number = () => performance.now() / 1000) {
    this.view = this.makeView();
  }

  start(url: string): void {
    this.socket = new LiveSocket(url, {
      onFrame: (frame) => this.take(frame),
      onConnection: (connection) => {
        this.connection = connection;
        this.waitingForSnapshot = false;
        this.emit();
      },
    });
    this.socket.start();
    this.ticker = setInterval(() => this.emit(), TICK_MS);
  }

  stop(): void {
    clearInterval(this.ticker);
    this.socket?.stop();
    this.socket = null;
    this.latest = null;
    this.frozen = null;
    this.pausedAt = null;
  }

  subscribe = (listener: Listener): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  getView = (): View => this.view;

  togglePause = (): void => {
    this.pausedAt = this.pausedAt === null ? this.now() : null;
    this.frozen = this.pausedAt === null ? null : this.latest;
    this.emit();
  };

  retryNow = (): void => this.socket?.retryNow();

  /** Ask for the last minutes of one subject; the answer goes to every history listener. */
  askHistory(of: "instance" | "class", id: string): void {
    this.socket?.askHistory(of, id);
  }

  onHistory(listener: HistoryListener): () => void {
    this.historyListeners.add(listener);
    return () => this.historyListeners.delete(listener);
  }

  take(frame: Frame): void {
    if (frame.type === "history") {
      for (const listener of this.historyListeners) listener(frame);
      return;
    }
    this.socket?.acknowledge(frame.seq);
    const step = reduce(this.latest, frame);
    if (step.kind === "gap") {
      if (!this.waitingForSnapshot) this.socket?.resync();
      this.waitingForSnapshot = true;
      return;
    }
    this.waitingForSnapshot = false;
    this.latest = step.state;
    this.receivedAt = this.clock();
    this.emit();
  }

  private now(): number {
    return this.latest ? this.latest.at + (this.clock() - this.receivedAt) : Date.now() / 1000;
  }

  private makeView(): View {
    const now = this.now();
    return {
      state: this.pausedAt === null ? this.latest : this.frozen,
      connection: this.connection,
      pausedAt: this.pausedAt,
      now,
      silentFor: this.latest ? this.clock() - this.receivedAt : 0,
    };
  }

  private emit(): void {
    this.view = this.makeView();
    for (const listener of this.listeners) listener();
  }
}
