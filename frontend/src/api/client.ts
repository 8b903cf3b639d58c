// The only fetch of the page. Errors are RFC 9457 problem documents.

export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail?: string;
  request_id?: string;
  errors?: { field: string; message: string }[];
}

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }

  get status(): number {
    return this.problem.status;
  }

  /** The message for one field of a form, if the server complained about it. */
  field(name: string): string | undefined {
    return this.problem.errors?.find((error) => error.field === name)?.message;
  }
}

export interface Page<T> {
  next: string | null;
  previous: string | null;
  results: T[];
}

/** A thing with the version it had when it was read: a change is refused once somebody else changed it. */
export interface Versioned<T> {
  value: T;
  etag: string;
}

const TIMEOUT_MS = 15_000;

export async function get<T>(path: string): Promise<T> {
  return (await send<T>("GET", path)).value;
}

export async function getVersioned<T>(path: string): Promise<Versioned<T>> {
  return send<T>("GET", path);
}

export async function post<T>(path: string, body: unknown = {}, etag = ""): Promise<T> {
  return (await send<T>("POST", path, { body, etag })).value;
}

export async function put<T>(path: string, body: unknown = {}): Promise<T> {
  return (await send<T>("PUT", path, { body })).value;
}

export async function patch<T>(path: string, body: unknown, etag: string): Promise<T> {
  return (await send<T>("PATCH", path, { body, etag })).value;
}

export async function remove(path: string, body?: unknown): Promise<void> {
  await send<unknown>("DELETE", path, body === undefined ? {} : { body });
}

/** An answer that comes in pieces; the caller reads its body. Refusals are thrown as everywhere. */
export async function stream(path: string, body: unknown, signal: AbortSignal): Promise<Response> {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream", ...token() };
  const response = await ask("POST", path, headers, JSON.stringify(body), signal);
  if (!response.ok) throw new ApiError(problemOf(response.status, await response.text()));
  return response;
}

async function send<T>(
  method: string,
  path: string,
  { body, etag }: { body?: unknown; etag?: string } = {},
): Promise<Versioned<T>> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") Object.assign(headers, token());
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (etag) headers["If-Match"] = etag;
  const response = await ask(method, path, headers, body === undefined ? undefined : JSON.stringify(body));
  const text = await response.text();
  if (!response.ok) throw new ApiError(problemOf(response.status, text));
  return { value: (text ? JSON.parse(text) : undefined) as T, etag: response.headers.get("ETag") ?? "" };
}

async function ask(
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: string,
  signal: AbortSignal = AbortSignal.timeout(TIMEOUT_MS),
): Promise<Response> {
  try {
    return await fetch(`/api/v1/${path}`, {
      method,
      headers,
      credentials: "same-origin",
      signal,
      ...(body === undefined ? {} : { body }),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(unreachable(error));
  }
}

function token(): Record<string, string> {
  return { "X-CSRFToken": cookie("csrftoken") };
}

function unreachable(error: unknown): Problem {
  const late = error instanceof DOMException && error.name === "TimeoutError";
  return {
    title: late ? "The console did not answer in time." : "The console cannot be reached.",
    status: 0,
    detail: late
      ? `No answer within ${TIMEOUT_MS / 1000} s. Whether it was done is shown once the page is live again.`
      : "Nothing was changed. Check the network, then try again.",
  };
}

function problemOf(status: number, text: string): Problem {
  try {
    const problem = JSON.parse(text) as Problem;
    if (typeof problem.title === "string") return { ...problem, status };
  } catch {
    // Not a problem document: a proxy answered.
  }
  return { title: `The console answered ${status}.`, status };
}

function cookie(name: string): string {
  const found = document.cookie.split("; ").find((part) => part.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}
