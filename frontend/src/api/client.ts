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

const TIMEOUT_MS = 15_000;

export async function get<T>(path: string): Promise<T> {
  return send<T>("GET", path);
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return send<T>("POST", path, body);
}

export async function remove(path: string): Promise<void> {
  await send<unknown>("DELETE", path);
}

async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = cookie("csrftoken");
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      headers,
      credentials: "same-origin",
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw new ApiError(unreachable(error));
  }
  const text = await response.text();
  if (!response.ok) throw new ApiError(problemOf(response.status, text));
  return (text ? JSON.parse(text) : undefined) as T;
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
