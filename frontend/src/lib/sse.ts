/** The `data` of each server-sent event of a response, as they come. */
export async function* readEvents(response: Response): AsyncGenerator<string> {
  const reader = response.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    buffer += decoder.decode(value, { stream: !done });
    const { events, rest } = split(done ? `${buffer}\n\n` : buffer);
    buffer = rest;
    yield* events;
    if (done) return;
  }
}

/** Whole events in a buffer, and what remains of it. Comments and other fields are passed over. */
export function split(buffer: string): { events: string[]; rest: string } {
  const parts = buffer.replaceAll("\r\n", "\n").split("\n\n");
  const rest = parts.pop() ?? "";
  const events = parts.flatMap((part) => {
    const data = part.split("\n").filter((line) => line.startsWith("data:"));
    return data.length ? [data.map((line) => line.slice(5).trimStart()).join("\n")] : [];
  });
  return { events, rest };
}
