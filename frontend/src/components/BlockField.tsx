import { useMantineColorScheme } from "@mantine/core";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import {
  type Cell,
  type FieldShape,
  fieldCells,
  fieldShape,
  type Owner,
  outline,
  type Span,
  spansOf,
  squareAt,
} from "../lib/blockfield";
import { count } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import type { Instance } from "../live/types";
import { classPattern } from "./ClassMark";

interface FieldProps {
  instance: Instance;
  /** Most blocks first. */
  requests: readonly Owner[];
  tenants: readonly string[];
  stale: boolean;
  height?: number;
  /** Numbers as in the list of requests; only where the squares are large enough. */
  numbered?: boolean;
  /** A tenant to light up; the others step back. */
  highlight?: string;
}

/** One square per block (or per some blocks), column by column, requests with most blocks first. */
export function BlockField({
  instance,
  requests,
  tenants,
  stale,
  height = 252,
  numbered = false,
  highlight = "",
}: FieldProps) {
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const { colorScheme } = useMantineColorScheme();
  useLayoutEffect(() => {
    const element = holder.current;
    if (!element) return;
    setWidth(element.clientWidth);
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const total = instance.total_blocks ?? 0;
  const shape = useMemo(() => fieldShape(total, width, height), [total, width, height]);
  const drawn = shape.pitch * shape.rows;
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !holder.current || width === 0 || colorScheme === null) return;
    const ratio = window.devicePixelRatio || 1;
    context.canvas.width = width * ratio;
    context.canvas.height = drawn * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const brush = brushFor(holder.current, tenants, { stale, highlight });
    for (const cell of fieldCells(shape, requests, instance)) brush(context, cell);
  });
  const spans = useMemo(() => spansOf(shape, requests, instance), [shape, requests, instance]);
  return (
    <div ref={holder} className="block-field">
      <canvas
        ref={canvas}
        style={{ width, height: drawn, display: "block" }}
        role="img"
        aria-label={fieldWords(instance, requests)}
      />
      {!stale && (
        <svg className="block-field-marks" width={width} height={drawn} aria-hidden>
          {spans
            .filter((span) => span.owner.migration_id !== "")
            .map((span) => (
              <Leaving key={span.owner.engine_id} shape={shape} span={span} />
            ))}
          {numbered &&
            shape.pitch >= 9 &&
            spans
              .slice(0, 14)
              .map((span) => <SpanNumber key={span.owner.engine_id} shape={shape} span={span} />)}
        </svg>
      )}
    </div>
  );
}

function Leaving({ shape, span }: { shape: FieldShape; span: Span }) {
  return (
    <g fill="none">
      <path d={outline(shape, span.first, span.end)} stroke="var(--page)" strokeWidth={3} />
      <path
        d={outline(shape, span.first, span.end)}
        stroke="var(--text)"
        strokeWidth={1.4}
        strokeDasharray="3 2"
      />
    </g>
  );
}

function SpanNumber({ shape, span }: { shape: FieldShape; span: Span }) {
  const { x, y } = squareAt(shape, span.first);
  const text = String(span.place);
  const wide = 6 + text.length * 6;
  return (
    <g>
      <rect x={x} y={y} width={wide} height={13} rx={2} fill="var(--page)" />
      <text x={x + wide / 2} y={y + 10} textAnchor="middle" className="field-number">
        {text}
      </text>
    </g>
  );
}

type Brush = (context: CanvasRenderingContext2D, cell: Cell) => void;

function brushFor(
  element: HTMLElement,
  tenants: readonly string[],
  { stale, highlight }: { stale: boolean; highlight: string },
): Brush {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const known = new Map<string, string>();
  const tone = (tenant: string) => {
    const found = known.get(tenant) ?? color(tenantColor(tenants, tenant).slice(4, -1));
    known.set(tenant, found);
    return found;
  };
  const [border, accent, dots, grey, card] = [
    color("--border"),
    color("--accent"),
    color("--text-3"),
    color("--stale"),
    color("--card"),
  ];
  return (context, cell) => {
    const { x, y, size } = cell;
    context.globalAlpha = 1;
    if (cell.kind === "request") {
      context.fillStyle = stale ? grey : tone(cell.tenant);
      const checker = classPattern(cell.sloClass) === "stripes" && (cell.column + cell.row) % 2;
      const away = highlight !== "" && cell.tenant !== highlight;
      context.globalAlpha = (checker ? 0.5 : 1) * (away ? 0.22 : 1);
      context.fillRect(x, y, size, size);
      if (classPattern(cell.sloClass) === "cap" && size >= 5) {
        context.globalAlpha = 1;
        context.fillStyle = card;
        context.fillRect(x, y + 1.5, size, 1.5);
      }
      return;
    }
    if (cell.kind === "headroom") {
      context.fillStyle = dots;
      const dot = Math.max(1, Math.round(size / 4));
      context.fillRect(x + (size - dot) / 2, y + (size - dot) / 2, dot, dot);
      return;
    }
    context.strokeStyle = cell.kind === "arriving" ? accent : border;
    context.globalAlpha = cell.kind === "arriving" ? 1 : 0.75;
    context.strokeRect(x + 0.5, y + 0.5, Math.max(1, size - 1), Math.max(1, size - 1));
    if (cell.kind === "arriving" && size >= 4) {
      context.beginPath();
      context.moveTo(x, y + size);
      context.lineTo(x + size, y);
      context.stroke();
    }
  };
}

function fieldWords(instance: Instance, requests: readonly Owner[]): string {
  return `${count(instance.used_blocks)} of ${count(instance.total_blocks)} blocks used by ${count(requests.length)} requests`;
}

/** The numbers under the large field. */
export function FieldFoot({ instance }: { instance: Instance }) {
  const total = instance.total_blocks ?? 0;
  const { blocksPerCell } = fieldShape(total, 480, 252);
  const free =
    instance.used_blocks === null
      ? null
      : Math.max(0, total - instance.used_blocks - (instance.reserved_blocks ?? 0));
  return (
    <div className="caption row field-foot">
      <span>
        <b>{count(instance.used_blocks)}</b> used
      </span>
      <span>
        <b>{count(instance.reserved_blocks)}</b> arriving
      </span>
      <span>
        <b>{count(instance.headroom_blocks)}</b> headroom
      </span>
      <span>
        <b>{count(free)}</b> free
      </span>
      <span className="push" title="Requests are listed once a second: grey blocks belong to newer ones.">
        <span className="class-mark unlisted-mark" /> not listed yet {"\u2003"}
        <span className="class-mark leaving-mark" /> leaving
        {blocksPerCell > 1 && ` · 1 square = ${count(blocksPerCell)} blocks`}
      </span>
    </div>
  );
}
