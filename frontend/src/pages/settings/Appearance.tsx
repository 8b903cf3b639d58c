import { useMantineColorScheme } from "@mantine/core";
import { SCHEMES, type Scheme } from "../../components/PersonMenu";

/** Light, dark or as the system; kept in this browser. */
export function Appearance() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <section className="card card-body form" aria-label="appearance">
      <fieldset className="choices">
        <legend className="strong">Theme</legend>
        {(Object.keys(SCHEMES) as Scheme[]).map((scheme) => (
          <label key={scheme} className={`choice ${colorScheme === scheme ? "is-chosen" : ""}`}>
            <input
              type="radio"
              name="theme"
              checked={colorScheme === scheme}
              onChange={() => setColorScheme(scheme)}
            />
            <span className={`theme-sample theme-${scheme}`} aria-hidden />
            <span>
              <b>{SCHEMES[scheme]}</b>
              <span className="detail t2 block">
                {{ auto: "follows the system", light: "for bright rooms", dark: "for 3 a.m." }[scheme]}
              </span>
            </span>
          </label>
        ))}
      </fieldset>
      <p className="detail t2">
        Movement follows the system's setting for reduced motion. Classes are patterns and states are shapes,
        so that no colour is needed to read a screen.
      </p>
    </section>
  );
}
