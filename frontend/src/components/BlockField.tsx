import { useMantineColorScheme } from "@mantine/core";
import { useEffect, useLayoutEffect, useRef, useState } from "react";
import type { LiveRequest } from "../api/types";
import { fieldCells, fieldShape } from "../lib/blockfield";
import { count } from "../lib/format";
import { tenantColor } from "../lib/tenants";
import type { Instance } from "../live/types";
import { classPattern } from "./ClassMark";

interface FieldProps {
  instance: Instance;
  requests: readonly LiveRequest[];
  tenants: readonly string[];
  stale: boolean;
}

const HEIGHT = 252;

/** One square per block (or per some blocks), column by column, requests with most blocks first. */
export function BlockField({ instance, requests, tenants, stale }: FieldProps) {
  const holder = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(480);
  const { colorScheme } = useMantineColorScheme();
  useLayoutEffect(() => {
    const element = holder.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const total = instance.total_blocks ?? 0;
  const shape = fieldShape(total, width, HEIGHT);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !holder.current || colorScheme === null) return;
    const style = getComputedStyle(holder.current);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const ratio = window.devicePixelRatio || 1;
    context.canvas.width = width * ratio;
    context.canvas.height = HEIGHT * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const cell of fieldCells(shape, requests, instance)) {
      const { x, y, size } = cell;
      if (cell.kind === "free") {
        context.strokeStyle = color("--border");
        context.globalAlpha = 0.7;
        context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
        context.globalAlpha = 1;
        continue;
      }
      if (cell.kind === "arriving") {
        context.strokeStyle = color("--accent");
        context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
        context.beginPath();
        context.moveTo(x, y + size);
        context.lineTo(x + size, y);
        context.stroke();
        continue;
      }
      context.fillStyle = stale ? color("--stale") : color(tenantVariable(tenants, cell.tenant));
      context.globalAlpha =
        classPattern(cell.sloClass) === "stripes" && (cell.column + cell.row) % 2 ? 0.5 : 1;
      context.fillRect(x, y, size, size);
      context.globalAlpha = 1;
      if (classPattern(cell.sloClass) === "cap" && size >= 5) {
        context.fillStyle = color("--card");
        context.fillRect(x, y + 1.5, size, 1.5);
      }
    }
  });
  return (
    <div ref={holder} className="block-field">
      <canvas
        ref={canvas}
        style={{ width, height: HEIGHT, display: "block" }}
        role="img"
        aria-label={`${count(instance.used_blocks)} of ${count(total)} blocks used by ${count(requests.length)} requests`}
      />
      <div className="caption row">
        <span>
          <b>{count(instance.used_blocks)}</b> used
        </span>
        <span>
          <b>{count(instance.reserved_blocks)}</b> arriving
        </span>
        <span>
          <b>
            {instance.used_blocks === null
              ? "–"
              : count(total - instance.used_blocks - (instance.reserved_blocks ?? 0))}
          </b>{" "}
          free
        </span>
        <span style={{ marginLeft: "auto" }}>
          1 square = {count(shape.blocksPerCell)} {shape.blocksPerCell === 1 ? "block" : "blocks"}
        </span>
      </div>
    </div>
  );
}

function tenantVariable(tenants: readonly string[], slug: string): string {
  return tenantColor(tenants, slug).slice(4, -1);
}
