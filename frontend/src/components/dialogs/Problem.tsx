import { ApiError } from "../../api/client";
import { Mark } from "../Mark";

/** What failed, in the server's words, with the request id. */
export function ProblemNote({ error }: { error: unknown }) {
  if (!error) return null;
  const problem = error instanceof ApiError ? error.problem : { title: String(error), status: 0 };
  return (
    <div className="note critical" role="alert">
      <Mark shape="hurt" />
      <span>
        <b>{problem.title}</b> {"detail" in problem && problem.detail !== problem.title ? problem.detail : ""}
        {"errors" in problem &&
          problem.errors
            ?.filter((each) => !problem.detail?.includes(each.message))
            .map((each) => (
              <span key={each.field + each.message}>
                {" "}
                {each.field}: {each.message}
              </span>
            ))}
        {"request_id" in problem && problem.request_id ? (
          <span className="t3"> Request {problem.request_id}.</span>
        ) : null}
      </span>
    </div>
  );
}
