import { Profile } from "./Profile";

/** A tenant owner's own settings: sign-in alone. */
export default function ProfilePage() {
  return (
    <>
      <div className="page-head">
        <h1>Profile</h1>
      </div>
      <Profile />
    </>
  );
}
