import { describe, expect, it } from "vitest";
import { readEvents, split } from "./sse";

describe("server-sent events", () => {
  it("keeps what is not whole yet, and passes comments over", () => {
    expect(split(': ping\n\ndata: {"a":1}\n\ndata: [DO')).toEqual({ events: ['{"a":1}'], rest: "data: [DO" });
    expect(split("data: a\ndata: b\r\n\r\n")).toEqual({ events: ["a\nb"], rest: "" });
  });

  it("reads events however the bytes are cut, also inside a character", async () => {
    const bytes = new TextEncoder().encode("data: ü\n\ndata: end\n\n");
    const pieces = [bytes.slice(0, 7), bytes.slice(7, 11), bytes.slice(11)];
    const body = new ReadableStream({
      start(controller) {
        for (const piece of pieces) controller.enqueue(piece);
        controller.close();
      },
    });
    const seen = [];
    for await (const event of readEvents(new Response(body))) seen.push(event);
    expect(seen).toEqual(["ü", "end"]);
  });
});
