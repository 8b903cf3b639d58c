import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { get, type Page } from "../api/client";
import type { AuditEntry } from "../api/types";
import { FilterField, Segmented } from "../components/Choices";
import { ProblemNote } from "../components/dialogs/Problem";
import { count, fullTime, moment } from "../lib/format";
import { type RangeKey, rangeWords, sinceOf } from "../lib/range";
import { useSettled } from "../lib/settled";
import { useUrlState } from "../lib/urlState";
import { useShown } from "../live/context";
import { useScope } from "../live/scope";

type Who = "people" | "all";

export default function Audit() {
  const { screenNow: now } = useShown();
  const [text, setText] = useUrlState<string>("q", "");
  const [who, setWho] = useUrlState<Who>("who", "people");
  const { range } = useScope();
  const asked = useSettled(text);
  const entries = useInfiniteQuery({
    queryKey: ["audit", asked, range],
    placeholderData: keepPreviousData,
    initialPageParam: "",
    queryFn: ({ pageParam }) => get<Page<AuditEntry>>(pageParam || firstPage(asked, range)),
    getNextPageParam: (page) => page.next ?? undefined,
    refetchInterval: 10_000,
  });
  const all = entries.data?.pages.flatMap((page) => page.results) ?? [];
  const rows = all.filter((row) => who === "all" || !row.actor.startsWith("system:loop"));
  return (
    <>
      <div className="page-head">
        <h1>Audit</h1>
        <span className="t2">Who did what, when and why. Entries are never changed or deleted.</span>
      </div>
      <div className="row filters">
        <FilterField value={text} placeholder="Filter person, action, object" onChange={setText} />
        <Segmented
          label="Whose acts"
          value={who}
          options={[
            ["people", "Without the loop"],
            ["all", "Everything"],
          ]}
          onChange={setWho}
        />
        <span className="t3">
          {rangeWords(range)}
          {all.length > rows.length && `; ${count(all.length - rows.length)} rounds of the loop left out`}
        </span>
      </div>
      <ProblemNote error={entries.error} />
      <section className="card" aria-label="audit entries">
        {entries.isPending ? (
          <div className="skeleton" style={{ height: 200, margin: 14 }} />
        ) : rows.length === 0 ? (
          <p className="empty">{text ? "No entry matches." : `Nothing was done ${rangeWords(range)}.`}</p>
        ) : (
          <ol className="audit">
            {rows.map((row) => (
              <Entry key={row.id} row={row} now={now} />
            ))}
          </ol>
        )}
        {entries.hasNextPage && (
          <div className="card-body">
            <button
              type="button"
              className="btn small"
              disabled={entries.isFetching}
              onClick={() => void entries.fetchNextPage()}
            >
              {entries.isFetchingNextPage ? "Loading…" : "Load older entries"}
            </button>
          </div>
        )}
      </section>
    </>
  );
}

function firstPage(text: string, range: RangeKey): string {
  const since = sinceOf(range, Date.now());
  const query = new URLSearchParams({
    limit: "50",
    ...(text ? { q: text } : {}),
    ...(since ? { since } : {}),
  });
  return `audit?${query}`;
}

function Entry({ row, now }: { row: AuditEntry; now: number }) {
  const at = Date.parse(row.at) / 1000;
  return (
    <li>
      <time className="t3 nowrap" title={fullTime(at)} dateTime={row.at}>
        {moment(at, now)}
      </time>
      <span>
        <b>{row.actor}</b> <span className="t2">{row.action.replace(".", " ").replace("_", " ")}</span>{" "}
        <span className="mono">{row.object_id}</span>
        {row.reason && <span className="t2"> · “{row.reason}”</span>}
      </span>
      <Difference before={row.before} after={row.after} />
      <span className="t3 caption" title={row.request_id ? `request ${row.request_id}` : undefined}>
        {row.address ?? ""}
      </span>
    </li>
  );
}

function Difference({ before, after }: Pick<AuditEntry, "before" | "after">) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (name) =>
      (said(before[name]) || said(after[name])) &&
      JSON.stringify(before[name]) !== JSON.stringify(after[name]),
  );
  return (
    <span className="detail difference">
      {names.map((name) => (
        <span key={name}>
          <span className="t3">{name}</span>{" "}
          {said(before[name]) && <s className="t3">{plain(before[name])}</s>}{" "}
          {said(after[name]) ? <b>{plain(after[name])}</b> : name in after && <b>none</b>}
        </span>
      ))}
    </span>
  );
}

/** Whether a value says anything: an empty one was never set. */
function said(value: unknown): boolean {
  return value != null && value !== "" && !["{}", "[]"].includes(JSON.stringify(value));
}

function plain(value: unknown): string {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
