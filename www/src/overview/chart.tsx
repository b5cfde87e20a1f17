// A chart of stacked layers over time. It is loaded on demand, because the library uPlot is large.
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { compact } from '../format.ts';
import { tickLabels } from './series.ts';

export interface Layer {
  name: string;
  /** A CSS colour; it may contain variables. */
  color: string;
  values: readonly number[];
}

interface Props {
  /** Start of each step, in seconds since the epoch. */
  at: readonly number[];
  minutes: number;
  /** Layers from the bottom to the top. */
  layers: readonly Layer[];
  label: string;
  /** Called with the index of the step below the pointer, or with null. */
  onPoint(step: number | null): void;
  /** Called with the start of a step that is clicked, in seconds since the epoch. */
  onPick(from: number): void;
}

/** Height in pixels, equal to the height of `.chart-frame` in overview.css. */
const HEIGHT = 290;

export default function Chart(props: Props) {
  const { at, minutes, layers, label } = props;
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(undefined);
  const repaint = useRepaint();
  const names = layers.map(({ name }) => name).join();
  useEffect(() => {
    const element = host.current!;
    const plot = new uPlot(options(element, props), stackedData(at, layers), element);
    chart.current = plot;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) plot.setSize({ width: entry.contentRect.width, height: HEIGHT });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [names, minutes, repaint]);
  useEffect(() => chart.current?.setData(stackedData(at, layers)), [at, layers]);
  return <div class="chart" ref={host} role="img" aria-label={label} />;
}

/**
 * Adds to each layer the layers below it. An additional last point marks the end of the last step.
 */
function stackedData(at: readonly number[], layers: readonly Layer[]): uPlot.AlignedData {
  const width = at.length > 1 ? at.at(-1)! - at.at(-2)! : 60;
  const below = at.map(() => 0);
  const tops = layers.map(({ values }) => {
    values.forEach((value, step) => (below[step]! += value));
    return [...below, below.at(-1) ?? 0];
  });
  return [[...at, (at.at(-1) ?? 0) + width], ...tops];
}

function options(host: HTMLElement, { minutes, layers, onPoint, onPick }: Props): uPlot.Options {
  const color = (value: string) => resolveColor(host, value);
  const line = color('var(--line)');
  const axis = {
    stroke: color('var(--dim)'),
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line, width: 1, size: 5 },
    font: '12px system-ui, sans-serif',
  };
  return {
    width: host.clientWidth,
    height: HEIGHT,
    padding: [10, 40, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.06)] } },
    series: [
      {},
      ...layers.map((layer) => ({
        stroke: color(layer.color),
        fill: color(`color-mix(in srgb, ${layer.color} 55%, var(--panel))`),
        width: 1.5,
        points: { show: false },
        paths: uPlot.paths.stepped!({ align: 1 }),
      })),
    ],
    bands: layers
      .slice(1)
      .map((_, index) => ({ series: [index + 2, index + 1] as uPlot.Band.Bounds })),
    axes: [
      { ...axis, space: 90, values: (_, splits) => tickLabels(splits, minutes) },
      { ...axis, size: 52, values: (_, splits) => splits.map(compact) },
    ],
    hooks: {
      setCursor: [(plot) => onPoint(stepAtCursor(plot))],
      ready: [
        (plot) =>
          plot.over.addEventListener('click', (event) => {
            const step = stepAtCursor(plot);
            // A touch shows only the values of a step. On touch screens, users open decisions with
            // the links of the table.
            const isTouch = (event as PointerEvent).pointerType === 'touch';
            if (step !== null && !isTouch) onPick(plot.data[0][step]!);
          }),
      ],
    },
  };
}

/**
 * Returns the step that contains the cursor, or null if the cursor is outside. (uPlot's own cursor
 * index is the step with the nearest start.)
 */
function stepAtCursor(plot: uPlot): number | null {
  const { left = -1 } = plot.cursor;
  if (left < 0) return null;
  const at = plot.posToVal(left, 'x');
  return Math.max(
    0,
    plot.data[0].slice(0, -1).findLastIndex((from) => from <= at),
  );
}

/**
 * Returns the computed value of a CSS colour. A canvas supports neither CSS variables nor
 * `light-dark()`.
 */
function resolveColor(host: HTMLElement, color: string): string {
  host.style.color = color;
  const resolved = getComputedStyle(host).color;
  host.style.color = '';
  return resolved;
}

/** Returns a number that grows when the theme changes. */
function useRepaint(): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    const repaint = () => setCount((count) => count + 1);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', repaint);
    addEventListener('hedgerow:theme', repaint);
    return () => {
      dark.removeEventListener('change', repaint);
      removeEventListener('hedgerow:theme', repaint);
    };
  }, []);
  return count;
}
