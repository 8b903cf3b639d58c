// What the page shows: the reduced state, the connection, the pause button, and the server's time.

import { type LiveState, reduce } from "./reducer";
import { type Connection, LiveSocket } from "./socket";
import type { ControlEvent, DeltaFrame, Frame, HistoryFrame, SnapshotFrame, Topic } from "./types";

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
/** The server sends eight frames ahead: half of them may be on their way before it hears of the others. */
const ACKNOWLEDGED_EVERY = 8;

type Listener = () => void;
type HistoryListener = (frame: HistoryFrame) => void;
/** Null: frames were missed, so anything may have happened. */
type NewsListener = (event: ControlEvent | null) => void;

export class LiveStore {
  private listeners = new Set<Listener>();
  private historyListeners = new Set<HistoryListener>();
  private newsListeners = new Set<NewsListener>();
  private wanted = new Map<Topic, number>();
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
      onOpen: () => this.sendTopics(),
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

  /** Events of the control plane as they happen. */
  onNews(listener: NewsListener): () => void {
    this.newsListeners.add(listener);
    return () => this.newsListeners.delete(listener);
  }

  /** Ask for a topic as long as somebody shows it; returns how to stop. */
  want(topic: Topic): () => void {
    const change = (by: number) => {
      const before = this.wanted.get(topic) ?? 0;
      this.wanted.set(topic, before + by);
      if (before === 0 || before + by === 0) this.sendTopics();
    };
    change(1);
    return () => change(-1);
  }

  private sendTopics(): void {
    this.socket?.subscribe([...this.wanted].filter(([, uses]) => uses > 0).map(([topic]) => topic));
  }

  take(frame: Frame): void {
    if (frame.type === "history") {
      for (const listener of this.historyListeners) listener(frame);
      return;
    }
    if (frame.type === "snapshot" || frame.seq % ACKNOWLEDGED_EVERY === 0)
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
    this.tell(frame);
    this.emit();
  }

  private tell(frame: SnapshotFrame | DeltaFrame): void {
    const events = frame.type === "snapshot" ? [null] : (frame.news ?? []).map((news) => news.event);
    for (const event of events) for (const listener of this.newsListeners) listener(event);
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
