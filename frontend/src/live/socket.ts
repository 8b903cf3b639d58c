// The only WebSocket of the page. It connects, acknowledges frames, asks again after a gap,
// and after a loss tries again with growing pauses until it is told to stop.

import type { Frame, Topic } from "./types";

export type Connection =
  | { kind: "connecting"; attempt: number }
  | { kind: "live" }
  | { kind: "lost"; since: number; attempt: number; retryAt: number }
  | { kind: "refused"; reason: "signed_out" | "no_role" };

export interface SocketHandlers {
  /** The line is up: time to subscribe. */
  onOpen(): void;
  onFrame(frame: Frame): void;
  onConnection(connection: Connection): void;
}

const NOT_SIGNED_IN = 4401;
const NO_ROLE = 4403;
/** The server sends a frame at least every second; after so long without one the line is dead. */
const SILENCE_MS = 6_000;
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 15_000;

/** The pause before attempt n (1, 2, …), with up to a fifth of chance so that browsers do not return together. */
export function pauseMs(attempt: number, chance: number): number {
  const base = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt - 1, 10));
  return Math.round(base * (1 + 0.2 * chance));
}

const decoder = new TextDecoder();

/** Frames come as bytes, answers to questions as text. */
function frameOf(data: ArrayBuffer | string): Frame {
  return JSON.parse(typeof data === "string" ? data : decoder.decode(data)) as Frame;
}

export class LiveSocket {
  private socket: WebSocket | null = null;
  private attempt = 0;
  private lostSince = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private stopped = false;

  constructor(
    private readonly url: string,
    private readonly handlers: SocketHandlers,
  ) {}

  start(): void {
    this.stopped = false;
    this.open();
    window.addEventListener("online", this.retryNow);
  }

  stop(): void {
    this.stopped = true;
    window.removeEventListener("online", this.retryNow);
    clearTimeout(this.retry);
    this.drop();
  }

  retryNow = (): void => {
    if (this.stopped || this.socket !== null) return;
    clearTimeout(this.retry);
    this.open();
  };

  resync(): void {
    this.send({ type: "resync" });
  }

  acknowledge(seq: number): void {
    this.send({ type: "ack", seq });
  }

  subscribe(topics: readonly Topic[]): void {
    this.send({ type: "subscribe", topics });
  }

  askHistory(of: "instance" | "class", id: string): void {
    this.send({ type: "history", of, id });
  }

  private send(message: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private open(): void {
    if (this.lostSince === 0) this.handlers.onConnection({ kind: "connecting", attempt: this.attempt });
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.watchSilence();
    socket.onopen = () => this.handlers.onOpen();
    socket.onmessage = (message) => this.take(frameOf(message.data));
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(event.code);
    };
  }

  private take(frame: Frame): void {
    this.watchSilence();
    if (this.attempt !== 0 || this.lostSince !== 0 || frame.type === "snapshot") {
      this.attempt = 0;
      this.lostSince = 0;
      this.handlers.onConnection({ kind: "live" });
    }
    this.handlers.onFrame(frame);
  }

  private closed(code: number): void {
    this.drop();
    if (this.stopped) return;
    if (code === NOT_SIGNED_IN || code === NO_ROLE) {
      this.stopped = true;
      this.handlers.onConnection({
        kind: "refused",
        reason: code === NO_ROLE ? "no_role" : "signed_out",
      });
      return;
    }
    this.planRetry();
  }

  private planRetry(): void {
    this.attempt += 1;
    if (this.lostSince === 0) this.lostSince = Date.now();
    const pause = pauseMs(this.attempt, Math.random());
    this.handlers.onConnection({
      kind: "lost",
      since: this.lostSince,
      attempt: this.attempt,
      retryAt: Date.now() + pause,
    });
    this.retry = setTimeout(() => this.open(), pause);
  }

  private watchSilence(): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.closed(0), SILENCE_MS);
  }

  private drop(): void {
    clearTimeout(this.silence);
    const socket = this.socket;
    this.socket = null;
    if (socket) {
      socket.onopen = null;
      socket.onmessage = null;
      socket.onclose = null;
      socket.close();
    }
  }
}
