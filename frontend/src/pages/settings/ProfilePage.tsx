import { Profile } from "./Profile";

/** The profile as a page of its own, for those who have no settings. */
export default function ProfilePage() {
  return <Profile />;
}
