import { useEffect } from "react";
import { useLocation } from "react-router";
import text from "../../../docs/runbooks.md?raw";
import { type Part, runbooks } from "../lib/runbooks";

const BOOKS = runbooks(text);

/** What to do when an alert fires: the document of that name, with the alert's own section in sight. */
export default function Runbooks() {
  const { hash } = useLocation();
  const asked = hash.slice(1);
  useEffect(() => {
    if (asked) document.getElementById(asked)?.scrollIntoView({ block: "start" });
  }, [asked]);
  return (
    <>
      <div className="page-head">
        <h1>{BOOKS.title}</h1>
      </div>
      <div className="grid runbooks">
        {BOOKS.sections.map(({ id, paragraphs }) => (
          <section
            key={id}
            id={id}
            className={`card card-body ${id === asked ? "is-asked" : ""}`}
            aria-labelledby={`${id}-name`}
          >
            <h2 className="words-title" id={`${id}-name`}>
              {id.replaceAll("-", " ")}
            </h2>
            {paragraphs.map((parts, index) => (
              <p key={index}>
                {parts.map((part, place) => (
                  <Words key={place} part={part} />
                ))}
              </p>
            ))}
          </section>
        ))}
      </div>
    </>
  );
}

function Words({ part }: { part: Part }) {
  return part.code ? <code className="mono">{part.text}</code> : part.text;
}
