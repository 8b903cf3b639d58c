// The document of runbooks, read as far as it goes: a title, sections by the kind of alert, paragraphs, code. Pure.

export interface Part {
  text: string;
  code: boolean;
}

export interface Section {
  /** The kind of alert rule, as in an alert's link. */
  id: string;
  paragraphs: Part[][];
}

export function runbooks(markdown: string): { title: string; sections: Section[] } {
  const [head = "", ...rest] = markdown.split(/^## /m);
  const title = /^# (.+)$/m.exec(head)?.[1] ?? "Runbooks";
  return { title, sections: rest.map(sectionOf) };
}

function sectionOf(chunk: string): Section {
  const [id = "", ...lines] = chunk.split("\n");
  const paragraphs = lines
    .join("\n")
    .split(/\n\s*\n/)
    .map((each) => each.trim().replaceAll(/\s*\n\s*/g, " "))
    .filter(Boolean);
  return { id: id.trim(), paragraphs: paragraphs.map(partsOf) };
}

function partsOf(paragraph: string): Part[] {
  return paragraph
    .split("`")
    .map((text, index) => ({ text, code: index % 2 === 1 }))
    .filter(({ text }) => text !== "");
}
