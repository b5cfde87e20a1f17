// Layers over time, one upon the other. It is a file of its own because uPlot is loaded only where there is something to draw.
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { compact } from '../format.ts';
import { ticks } from '../overview/series.ts';

export interface Layer {
  name: string;
  /** Any CSS colour; variables, too. */
  color: string;
  values: readonly number[];
}

interface Props {
  at: readonly number[];
  minutes: number;
  /** From the bottom to the top. */
  layers: readonly Layer[];
  label: string;
  /** The step below the pointer; null where there is none. */
  onPoint(step: number | null): void;
  /** Told when the step that is clicked begins. */
  onPick(from: number): void;
}

const HEIGHT = 290;

export default function Chart({ at, minutes, layers, label, onPoint, onPick }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const repaint = useRepaint();
  const shape = layers.map(({ name }) => name).join();
  useEffect(() => {
    const own = new uPlot(options(host.current!, { at, minutes, layers, label, onPoint, onPick }), stacked(at, layers), host.current!);
    plot.current = own;
    const observer = new ResizeObserver(([entry]) => entry && own.setSize({ width: entry.contentRect.width, height: HEIGHT }));
    observer.observe(host.current!);
    return () => {
      observer.disconnect();
      own.destroy();
    };
  }, [shape, minutes, repaint]);
  useEffect(() => plot.current?.setData(stacked(at, layers)), [at, layers]);
  return <div class="chart" ref={host} role="img" aria-label={label} />;
}

/** Each layer on top of those below it. The last step ends where a next one would begin. */
function stacked(at: readonly number[], layers: readonly Layer[]): uPlot.AlignedData {
  const width = at.length > 1 ? at.at(-1)! - at.at(-2)! : 60;
  const below = at.map(() => 0);
  const tops = layers.map(({ values }) => {
    values.forEach((value, step) => (below[step]! += value));
    return [...below, below.at(-1) ?? 0];
  });
  return [[...at, (at.at(-1) ?? 0) + width], ...tops];
}

function options(host: HTMLElement, { minutes, layers, onPoint, onPick }: Props): uPlot.Options {
  const painted = (color: string) => resolved(host, color);
  const [text, line] = [painted('var(--dim)'), painted('var(--line)')];
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 5 }, font: '12px system-ui, sans-serif' };
  return {
    width: host.clientWidth,
    height: HEIGHT,
    padding: [10, 40, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.06)] } },
    series: [
      {},
      ...layers.map(({ color }) => ({
        stroke: painted(color),
        fill: painted(`color-mix(in srgb, ${color} 55%, var(--panel))`),
        width: 1.5,
        points: { show: false },
        paths: uPlot.paths.stepped!({ align: 1 }),
      })),
    ],
    bands: layers.slice(1).map((_, index) => ({ series: [index + 2, index + 1] as uPlot.Band.Bounds })),
    axes: [
      { ...axis, space: 90, values: (_, splits) => ticks(splits, minutes) },
      { ...axis, size: 52, values: (_, splits) => splits.map(compact) },
    ],
    hooks: {
      setCursor: [(plot) => onPoint(below(plot))],
      ready: [
        (plot) =>
          plot.over.addEventListener('click', (event) => {
            const step = below(plot);
            // By finger one sees a step's values first; the table has the links.
            if (step !== null && (event as PointerEvent).pointerType !== 'touch') onPick(plot.data[0][step]!);
          }),
      ],
    },
  };
}

/** The step below the pointer: the last that has begun there. uPlot's own is the nearest beginning. */
function below(plot: uPlot): number | null {
  const { left = -1 } = plot.cursor;
  if (left < 0) return null;
  const value = plot.posToVal(left, 'x');
  return Math.max(0, plot.data[0].slice(0, -1).findLastIndex((from) => from <= value));
}

/** A canvas knows neither variables nor light-dark(). */
function resolved(host: HTMLElement, color: string): string {
  host.style.color = color;
  const own = getComputedStyle(host).color;
  host.style.color = '';
  return own;
}

/** Grows whenever the theme changes. */
function useRepaint(): number {
  const [round, next] = useState(0);
  useEffect(() => {
    const changed = () => next((round) => round + 1);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', changed);
    addEventListener('hedgerow:theme', changed);
    return () => {
      dark.removeEventListener('change', changed);
      removeEventListener('hedgerow:theme', changed);
    };
  }, []);
  return round;
}
