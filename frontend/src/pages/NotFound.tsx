import { Link } from "react-router";

export default function NotFound() {
  return (
    <div className="card empty">
      <h1 className="strong">There is no such page.</h1>
      <p>
        <Link to="/">Back to the overview</Link>
      </p>
    </div>
  );
}
