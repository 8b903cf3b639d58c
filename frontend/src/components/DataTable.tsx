import type { ReactNode } from "react";

export interface Column<T> {
  head: ReactNode;
  cell: (row: T, index: number) => ReactNode;
  /** Beside its value where a row becomes a card; the head itself where it is a plain word. */
  label?: string;
  /** A number: at the right, under a head at the right. */
  num?: boolean;
  className?: string | ((row: T) => string);
  title?: (row: T) => string | undefined;
  /** Buttons or remarks: the head is read out and not drawn. */
  bare?: boolean;
}

interface TableProps<T> {
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T, index: number) => string | number;
  rowClass?: (row: T) => string;
  label?: string | undefined;
  tight?: boolean;
  className?: string;
  /** On a phone: each row a card with its heads beside its values, or the table as it is. */
  narrow?: "cards" | "table";
  /** Scrolls in itself below its head, which stays in sight. */
  bounded?: boolean;
}

/** The table of every list that is not endless: one head, one shell, one way to be read on a phone. */
export function DataTable<T>(props: TableProps<T>) {
  const { columns, rows, rowKey, rowClass, label, tight, className = "", narrow = "cards", bounded } = props;
  const kinds = ["table", tight ? "tight" : "", narrow === "cards" ? "cards" : "", className];
  return (
    <div className={bounded ? "scroll-x is-bounded" : "scroll-x"}>
      <table className={kinds.filter(Boolean).join(" ")} aria-label={label}>
        <thead>
          <tr>
            {columns.map((column, index) => (
              <th key={index} scope="col" className={column.num ? "num" : undefined}>
                {column.bare ? <span className="visually-hidden">{column.head}</span> : column.head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, place) => (
            <tr key={rowKey(row, place)} className={rowClass?.(row)}>
              {columns.map((column, index) => (
                <Cell key={index} column={column} row={row} place={place} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cell<T>({ column, row, place }: { column: Column<T>; row: T; place: number }) {
  const own = typeof column.className === "function" ? column.className(row) : (column.className ?? "");
  const label = column.label ?? (typeof column.head === "string" ? column.head : "");
  return (
    <td
      className={[column.num ? "num" : "", column.bare ? "is-bare" : "", own].filter(Boolean).join(" ")}
      title={column.title?.(row)}
      data-label={column.bare ? undefined : label}
    >
      {column.cell(row, place)}
    </td>
  );
}
