import { Select } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { post } from "../../api/client";
import { useLiveRequests } from "../../api/requests";
import type { LiveRequest } from "../../api/types";
import { freeTokens, isFresh, isServing } from "../../lib/fleet";
import { count } from "../../lib/format";
import { shortId } from "../../lib/words";
import { useShown } from "../../live/context";
import { useInstances } from "../../live/pool";
import type { Instance } from "../../live/types";
import { Mark } from "../Mark";
import { useSay } from "../Notices";
import { ProblemNote } from "./Problem";
import { Sheet } from "./Sheet";

interface MigrateProps {
  sourceId: string | undefined;
  requestId: string | undefined;
  onClose: () => void;
}

/** Choose a running request and where it shall go on. */
export function MigrateDialog({ sourceId, requestId, onClose }: MigrateProps) {
  const { now } = useShown();
  const instances = useInstances().filter((item) => isFresh(item, now));
  const [source, setSource] = useState(sourceId ?? null);
  const [request, setRequest] = useState(requestId ?? null);
  const [destination, setDestination] = useState<string | null>(null);
  const live = useLiveRequests(source);
  const requests = (live.data?.requests ?? []).filter((item) => item.state === "running");
  const chosen = requests.find((item) => item.request_id === request);
  const from = instances.find((item) => item.id === source);
  const targets = instances.filter(
    (item) => item.id !== source && item.pool === from?.pool && isServing(item),
  );
  const target = targets.find((item) => item.id === destination);
  const migrate = useMigrate(onClose);
  return (
    <Sheet title="Migrate a request" opened onClose={onClose}>
      <form
        className="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (source && request && destination) migrate.mutate({ source, request, destination });
        }}
      >
        <p className="t2">
          It keeps decoding while its memory is copied; the client sees one pause of a few steps at most.
        </p>
        <Select
          label="From"
          placeholder="Choose an instance"
          data={instances.map((item) => ({
            value: item.id,
            label: `${item.id} · ${count(item.running)} running`,
          }))}
          value={source}
          onChange={(value) => {
            setSource(value);
            setRequest(null);
          }}
          searchable
        />
        <Select
          label="Request"
          placeholder={
            source
              ? live.isPending
                ? "Asking the instance…"
                : "Choose a running request"
              : "First choose where from"
          }
          disabled={!source}
          data={requests.map((item) => ({ value: item.request_id, label: requestLabel(item) }))}
          value={request}
          onChange={setRequest}
          nothingFoundMessage="No running request here now"
          searchable
        />
        <Select
          label="To"
          placeholder="Choose a destination"
          disabled={!source}
          data={targets.map((item) => ({
            value: item.id,
            label: `${item.id} · ${count(freeTokens(item))} tokens free`,
          }))}
          value={destination}
          onChange={setDestination}
          nothingFoundMessage="No other instance takes work"
          searchable
        />
        {request && !chosen && live.isSuccess && (
          <div className="note" role="status">
            <Mark shape="risk" />
            <span>
              {shortId(request)} no longer decodes on {source}: it ended or moved. Choose another.
            </span>
          </div>
        )}
        <FitNote request={chosen} target={target} />
        <ProblemNote error={live.error ?? migrate.error} />
        <div className="form-actions">
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          <button
            type="submit"
            className="btn primary"
            disabled={!chosen || !destination || migrate.isPending}
          >
            {destination ? `Migrate to ${destination}` : "Migrate"}
          </button>
        </div>
      </form>
    </Sheet>
  );
}

function FitNote({ request, target }: { request: LiveRequest | undefined; target: Instance | undefined }) {
  if (!request || !target) return null;
  const needed = request.blocks * (target.block_size_tokens ?? 0);
  const free = freeTokens(target) ?? 0;
  const fits = free >= needed;
  return (
    <div className={`note ${fits ? "plain" : ""}`}>
      <Mark shape={fits ? "good" : "risk"} />
      <span>
        It holds {count(request.blocks)} blocks ({count(needed)} tokens); {target.id} has {count(free)} tokens
        free.
        {!fits && <b> It does not fit now: the move would stop and the request go on where it is.</b>}
      </span>
    </div>
  );
}

function requestLabel(item: LiveRequest): string {
  return `${shortId(item.request_id)} · ${item.tenant} · ${item.slo_class} · ${count(item.blocks)} blocks`;
}

function useMigrate(onDone: () => void) {
  const say = useSay();
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({
      source,
      request,
      destination,
    }: {
      source: string;
      request: string;
      destination: string;
    }) => post<{ migration_id: string }>("migrations", { source, request_id: request, destination }),
    onSuccess: (answer, { request, destination }) => {
      void queries.invalidateQueries({ queryKey: ["migrations"] });
      say({
        kind: "good",
        text: `${shortId(request)} shall move to ${destination}: ${answer.migration_id}.`,
      });
      onDone();
    },
  });
}
