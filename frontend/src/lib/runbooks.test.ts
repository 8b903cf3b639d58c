import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runbooks } from "./runbooks";

const text = readFileSync(new URL("../../../docs/runbooks.md", import.meta.url), "utf8");

describe("the runbooks", () => {
  it("have a section per kind of alert, none empty", () => {
    const { title, sections } = runbooks(text);
    expect(title).toBe("What to do when an alert fires");
    expect(sections.map(({ id }) => id)).toContain("loop-not-leading");
    expect(sections.filter(({ id, paragraphs }) => !/^[a-z-]+$/.test(id) || paragraphs.length === 0)).toEqual(
      [],
    );
  });

  it("use no more of Markdown than is read", () => {
    const drawn = runbooks(text).sections.flatMap(({ paragraphs }) => paragraphs.flat());
    expect(drawn.filter((part) => !part.code && /^[-*|#]|\*\*|\]\(/.test(part.text))).toEqual([]);
  });

  it("tell code from words", () => {
    expect(runbooks("# T\n\n## a\n\nlook at\n`x`, then go\n").sections).toEqual([
      {
        id: "a",
        paragraphs: [
          [
            { text: "look at ", code: false },
            { text: "x", code: true },
            { text: ", then go", code: false },
          ],
        ],
      },
    ]);
  });
});
