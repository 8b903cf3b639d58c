import { useMutation } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Link } from "react-router";
import { stream } from "../api/client";
import { useRequest } from "../api/requests";
import { useBlocked } from "../components/ActionButton";
import { Picker } from "../components/Choices";
import { ClassMark } from "../components/ClassMark";
import { ProblemNote } from "../components/dialogs/Problem";
import { Mark } from "../components/Mark";
import { OverviewSkeleton } from "../components/Skeletons";
import { Stat } from "../components/Stat";
import { byRank } from "../lib/fleet";
import { count, duration, durationParts } from "../lib/format";
import { readEvents } from "../lib/sse";
import { shortId } from "../lib/words";
import { useShown } from "../live/context";
import type { LiveState } from "../live/reducer";

interface Turn {
  role: "user" | "assistant";
  content: string;
}

interface Reply {
  requestId: string;
  startedAt: number;
  firstAt: number | null;
  lastAt: number;
  tokens: number;
  longestGapMs: number;
}

export default function Playground() {
  const { state } = useShown();
  if (state === null) return <OverviewSkeleton />;
  return <Known state={state} />;
}

function Known({ state }: { state: LiveState }) {
  const blocked = useBlocked();
  const [turns, setTurns] = useState<Turn[]>([]);
  const [text, setText] = useState("");
  const [sloClass, setClass] = useState(byRank(state)[1]?.name ?? byRank(state)[0]?.name ?? "standard");
  const [tenant, setTenant] = useState(state.tenants[0] ?? "");
  const [longest, setLongest] = useState("128");
  const [reply, setReply] = useState<Reply | null>(null);
  const abort = useRef<AbortController | null>(null);
  const chat = useMutation({
    mutationFn: async (asked: Turn[]) => {
      abort.current = new AbortController();
      await talk(
        { messages: asked, slo_class: sloClass, tenant, max_tokens: Number(longest) },
        abort.current.signal,
        (next) => setReply(next),
        (piece) => setTurns((all) => withPiece(all, piece)),
      );
    },
  });
  const send = () => {
    if (text.trim() === "" || chat.isPending) return;
    const asked: Turn[] = [...turns, { role: "user", content: text.trim() }];
    setTurns([...asked, { role: "assistant", content: "" }]);
    setText("");
    setReply(null);
    chat.mutate(asked);
  };
  return (
    <>
      <div className="page-head">
        <h1>Playground</h1>
        <span className="t2">Ask the model through the gateway, and watch where the answer is made.</span>
      </div>
      <div className="grid columns">
        <section className="card playground" aria-label="chat">
          <div className="card-head">
            <Picker
              label="Class"
              value={sloClass}
              options={byRank(state).map((row) => [row.name, row.name] as const)}
              onChange={setClass}
            />
            <Picker
              label="As tenant"
              value={tenant}
              options={state.tenants.map((slug) => [slug, slug] as const)}
              onChange={setTenant}
            />
            <Picker
              label="At most"
              value={longest}
              options={[
                ["32", "32 tokens"],
                ["128", "128 tokens"],
                ["512", "512 tokens"],
                ["2048", "2,048 tokens"],
              ]}
              onChange={setLongest}
            />
            <button
              type="button"
              className="btn small aside"
              onClick={() => setTurns([])}
              disabled={chat.isPending}
            >
              Start anew
            </button>
          </div>
          <div className="turns" aria-live="polite">
            {turns.length === 0 && (
              <p className="empty">
                A question goes the way of every request: admitted for the tenant, placed on an instance,
                moved when that helps. The answer streams in here.
              </p>
            )}
            {turns.map((turn, index) => (
              <div key={index} className={`turn turn-${turn.role}`}>
                {turn.content ||
                  (chat.isPending ? <span className="t3">waiting for the first token…</span> : "–")}
              </div>
            ))}
          </div>
          <div className="card-body">
            <ProblemNote error={chat.error instanceof DOMException ? null : chat.error} />
          </div>
          <form
            className="ask"
            onSubmit={(event) => {
              event.preventDefault();
              send();
            }}
          >
            <textarea
              className="field"
              aria-label="Message"
              placeholder="Ask something"
              rows={2}
              value={text}
              onChange={(event) => setText(event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && !event.shiftKey) {
                  event.preventDefault();
                  send();
                }
              }}
            />
            {chat.isPending ? (
              <button type="button" className="btn" onClick={() => abort.current?.abort()}>
                Stop
              </button>
            ) : (
              <button
                type="submit"
                className="btn primary"
                disabled={text.trim() === "" || blocked !== ""}
                title={blocked}
              >
                Send
              </button>
            )}
          </form>
        </section>
        <div className="side">
          {reply ? (
            <ReplyCard reply={reply} open={chat.isPending} sloClass={sloClass} />
          ) : (
            <section className="card card-body t2">
              Where the answer is made, and every move of it, shows here.
            </section>
          )}
        </div>
      </div>
    </>
  );
}

function withPiece(turns: Turn[], piece: string): Turn[] {
  const last = turns.at(-1);
  return last?.role === "assistant"
    ? [...turns.slice(0, -1), { ...last, content: last.content + piece }]
    : [...turns, { role: "assistant", content: piece }];
}

/** Stream one answer: the pieces as they come, and when they came. */
async function talk(
  body: object,
  signal: AbortSignal,
  onReply: (reply: Reply) => void,
  onPiece: (piece: string) => void,
): Promise<void> {
  const startedAt = performance.now();
  const response = await stream("playground/chat", body, signal);
  let reply: Reply = {
    requestId: response.headers.get("x-request-id") ?? "",
    startedAt,
    firstAt: null,
    lastAt: startedAt,
    tokens: 0,
    longestGapMs: 0,
  };
  onReply(reply);
  for await (const data of readEvents(response)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data) as {
      id?: string;
      choices?: { delta?: { content?: string } }[];
      error?: { message: string };
    };
    if (chunk.error) throw new Error(chunk.error.message);
    const piece = chunk.choices?.[0]?.delta?.content ?? "";
    if (!piece) continue;
    const now = performance.now();
    reply = {
      ...reply,
      requestId: chunk.id ?? reply.requestId,
      firstAt: reply.firstAt ?? now,
      longestGapMs: reply.firstAt === null ? 0 : Math.max(reply.longestGapMs, now - reply.lastAt),
      lastAt: now,
      tokens: reply.tokens + 1,
    };
    onReply(reply);
    onPiece(piece);
  }
}

function ReplyCard({ reply, open, sloClass }: { reply: Reply; open: boolean; sloClass: string }) {
  const request = useRequest(reply.requestId);
  const found = reply.requestId ? request.data : undefined;
  const seen = found?.segments.flatMap((segment) => (segment.instance ? [segment.instance] : [])) ?? [];
  const places = seen.length
    ? seen.filter((id, index) => id !== seen[index - 1])
    : found?.instance
      ? [found.instance]
      : [];
  const mean =
    reply.firstAt !== null && reply.tokens > 1 ? (reply.lastAt - reply.firstAt) / (reply.tokens - 1) : null;
  return (
    <section className="card" aria-label="where the answer is made">
      <div className="card-head">
        <h2>Served by</h2>
        <span className="aside">{open ? "streaming" : "ended"}</span>
      </div>
      <div className="card-body form">
        <div className="row served-by" aria-live="polite">
          {places.length === 0 && <span className="t2">not placed yet</span>}
          {places.map((id, index) => (
            <span key={`${id}${index}`} className="row">
              {index > 0 && <Mark shape="moving" label="moved to" />}
              <Link to={`/instances/${id}`} className="strong">
                {id}
              </Link>
            </span>
          ))}
        </div>
        <div className="impact">
          <Parts
            ms={reply.firstAt === null ? null : reply.firstAt - reply.startedAt}
            caption="to the first token"
          />
          <Parts ms={mean} caption="per token after it" />
          <Parts ms={reply.tokens > 1 ? reply.longestGapMs : null} caption="longest pause seen here" />
          <Stat value={count(reply.tokens)} unit="pieces" caption="of text" />
        </div>
        <p className="detail t2">
          <ClassMark name={sloClass} /> {sloClass}
          {found
            ? ` · served as ${found.slo_class_served}, ${count(found.moves)} moves, ${count(found.recoveries)} recoveries`
            : ""}
        </p>
        {reply.requestId && (
          <p className="detail">
            <Link to={`/requests/${encodeURIComponent(reply.requestId)}`} className="mono">
              {shortId(reply.requestId)}
            </Link>{" "}
            <span className="t3">
              its whole life
              {found?.ttft_ms ? `; the gateway saw ${duration(found.ttft_ms)} to the first token` : ""}
            </span>
          </p>
        )}
      </div>
    </section>
  );
}

function Parts({ ms, caption }: { ms: number | null; caption: string }) {
  const parts = ms === null ? null : durationParts(ms);
  return <Stat value={parts?.value ?? "–"} unit={parts?.unit ?? ""} caption={caption} />;
}
