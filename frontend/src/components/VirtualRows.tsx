import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useRef } from "react";

interface VirtualProps<T> {
  label: string;
  rows: readonly T[];
  rowKey: (row: T) => string;
  rowHeight: number;
  /** CSS grid columns, the same for head and rows. */
  columns: string;
  head: readonly ReactNode[];
  render: (row: T) => readonly ReactNode[];
  /** Columns whose numbers stand at the right. */
  numbers: readonly number[];
  height?: number;
  onEnd?: (() => void) | undefined;
}

/** A table of any length: only what is in view is in the page. Rows and cells have a table's roles. */
export function VirtualRows<T>(props: VirtualProps<T>) {
  const { rows, rowKey, rowHeight, columns, head, render, numbers, height = 620, onEnd, label } = props;
  const holder = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => holder.current,
    estimateSize: () => rowHeight,
    overscan: 12,
    getItemKey: (index) => rowKey(rows[index] as T),
    onChange: (made) => {
      if (onEnd && (made.range?.endIndex ?? 0) >= rows.length - 5) onEnd();
    },
  });
  const grid = { gridTemplateColumns: columns };
  const alignment = (index: number) => (numbers.includes(index) ? "num" : "");
  return (
    <div
      ref={holder}
      className="virtual"
      style={{ maxHeight: height }}
      role="table"
      aria-label={label}
      aria-rowcount={rows.length + 1}
      tabIndex={0}
    >
      <div role="row" className="virtual-row virtual-head caption" style={grid} aria-rowindex={1}>
        {head.map((cell, index) => (
          <span key={index} role="columnheader" className={alignment(index)}>
            {cell}
          </span>
        ))}
      </div>
      <div style={{ height: virtual.getTotalSize(), position: "relative" }} role="rowgroup">
        {virtual.getVirtualItems().map((item) => (
          <div
            key={item.key}
            role="row"
            aria-rowindex={item.index + 2}
            className="virtual-row"
            style={{
              ...grid,
              height: rowHeight,
              transform: `translateY(${item.start}px)`,
              position: "absolute",
            }}
          >
            {render(rows[item.index] as T).map((cell, index) => (
              <span key={index} role="cell" className={alignment(index)}>
                {cell}
              </span>
            ))}
          </div>
        ))}
      </div>
    </div>
  );
}
