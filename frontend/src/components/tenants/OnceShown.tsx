import { useState } from "react";
import { Mark } from "../Mark";

/** A secret that is shown this once: copy it, then it is gone. */
export function OnceShown({ what, value, onClose }: { what: string; value: string; onClose: () => void }) {
  const [copied, setCopied] = useState(false);
  return (
    <div className="form">
      <div className="note">
        <Mark shape="risk" />
        <span>
          <b>This {what} is shown only now.</b> Llumdeck keeps no copy of it; if it is lost, make another one.
        </span>
      </div>
      <div className="command">
        <code data-once>{value}</code>
        <button
          type="button"
          className="btn small"
          onClick={() => {
            void navigator.clipboard?.writeText(value);
            setCopied(true);
          }}
        >
          {copied ? "Copied" : "Copy"}
        </button>
      </div>
      <div className="form-actions">
        <button type="button" className="btn primary" onClick={onClose}>
          I have kept it
        </button>
      </div>
    </div>
  );
}
