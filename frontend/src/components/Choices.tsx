interface PickerProps<T extends string> {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}

/** A small labelled choice in a row of controls. */
export function Picker<T extends string>({ label, value, options, onChange }: PickerProps<T>) {
  return (
    <label className="picker">
      <span className="t3">{label}</span>{" "}
      <select value={value} onChange={(event) => onChange(event.currentTarget.value as T)}>
        {options.map(([key, words]) => (
          <option key={key} value={key}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Two to five exclusive views side by side. */
export function Segmented<T extends string>({ label, value, options, onChange }: PickerProps<T>) {
  return (
    <fieldset className="segmented" aria-label={label}>
      {options.map(([key, words]) => (
        <button key={key} type="button" aria-pressed={value === key} onClick={() => onChange(key)}>
          {words}
        </button>
      ))}
    </fieldset>
  );
}

interface FilterProps {
  value: string;
  placeholder: string;
  onChange: (value: string) => void;
}

/** The filter of a page; `/` puts the cursor here, Escape gives the keys back to the page. */
export function FilterField({ value, placeholder, onChange }: FilterProps) {
  return (
    <span className="filter-field">
      <input
        className="field"
        data-filter
        placeholder={placeholder}
        aria-label={placeholder}
        value={value}
        onChange={(event) => onChange(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      <kbd aria-hidden>/</kbd>
    </span>
  );
}
