import { Link } from "react-router";
import { PLACES, SETTINGS, TABS } from "../lib/places";
import { Sheet } from "./dialogs/Sheet";
import { Icon } from "./Icon";

/** On a phone: the pages that have no tab. */
export function MoreSheet({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Sheet title="All pages" opened={opened} onClose={onClose}>
      <ul className="more-list">
        {[...PLACES, SETTINGS]
          .filter((place) => !TABS.includes(place.to))
          .map((place) => (
            <li key={place.to}>
              <Link to={place.to} onClick={onClose}>
                <Icon name={place.icon} /> {place.name}
              </Link>
            </li>
          ))}
      </ul>
    </Sheet>
  );
}
