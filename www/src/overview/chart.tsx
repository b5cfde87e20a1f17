// A chart of stacked layers over time, as SVG: colours, themes and fonts come from the style sheet.
import type { RefObject } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { compact } from '../format.ts';
import { tickLabel, timeTicks, valueTicks } from './ticks.ts';

export interface Layer {
  name: string;
  /** A CSS colour; it may contain variables. */
  color: string;
  values: readonly number[];
}

interface Props {
  /** Start of each step, in seconds since the epoch. */
  at: readonly number[];
  /** Seconds per step. */
  step: number;
  /** Layers from the bottom to the top. */
  layers: readonly Layer[];
  /** A dashed line over the layers, with a value per step: an earlier range. */
  earlier: readonly number[] | undefined;
  label: string;
  /** Called with the index of the step below the pointer, or with null. */
  onPoint(step: number | null): void;
  /** Called with the start of a step that is clicked, in seconds since the epoch. */
  onPick(from: number): void;
  /** Called with the ends of a part that is selected by dragging, in seconds since the epoch. */
  onZoom(from: number, to: number): void;
}

/** Height of the chart in pixels, and the space around the plot: see overview.css. */
const HEIGHT = 290;
const SPACE = { left: 52, right: 40, top: 10, bottom: 50 };
const BOTTOM = HEIGHT - SPACE.bottom;

/** Positions in pixels of times and values. */
interface Scale {
  /** Width of the plot. */
  width: number;
  start: number;
  end: number;
  max: number;
  x(at: number): number;
  y(value: number): number;
}

export function Chart(props: Props) {
  const { at, step, layers, earlier, label } = props;
  const host = useRef<HTMLDivElement>(null);
  const scale = toScale(props, useWidth(host));
  const ends = [...at, (at.at(-1) ?? 0) + step];
  const below = at.map(() => 0);
  // The lowest layers come last, so that no layer covers their thinnest lines.
  const areas = layers
    .map((layer) => {
      const bottoms = [...below];
      layer.values.forEach((value, index) => (below[index]! += value));
      return <Area key={layer.name} {...{ layer, bottoms, ends, scale }} />;
    })
    .toReversed();
  const { x, y } = scale;
  const line = earlier?.map((value, index) => `V${y(value)}H${x(ends[index + 1]!)}`).join('');
  return (
    <div class="chart" ref={host} role="img" aria-label={label}>
      {scale.width > 0 && (
        <svg width="100%" height={HEIGHT} aria-hidden="true">
          <Axes scale={scale} />
          {areas}
          {line && <path class="earlier-line" d={`M${x(scale.start)},${y(earlier![0]!)}${line}`} />}
          <Pointer scale={scale} props={props} />
        </svg>
      )}
    </div>
  );
}

function toScale({ at, step, layers, earlier = [] }: Props, hostWidth: number): Scale {
  const width = hostWidth - SPACE.left - SPACE.right;
  const [start = 0] = at;
  const end = start + at.length * step;
  const sums = at.map((_, index) =>
    layers.reduce((sum, { values }) => sum + (values[index] ?? 0), 0),
  );
  const max = 1.06 * Math.max(1, ...sums, ...earlier);
  // One digit after the point keeps the paths short.
  const round = (pixels: number) => Math.round(10 * pixels) / 10;
  return {
    width,
    start,
    end,
    max,
    x: (time) => round(SPACE.left + (width * (time - start)) / (end - start || 1)),
    y: (value) => round(BOTTOM - ((BOTTOM - SPACE.top) * value) / max),
  };
}

/** Grid lines, and their labels. A new day has a second line. */
function Axes({ scale: { width, start, end, max, x, y } }: { scale: Scale }) {
  const times = timeTicks(start, end, width / 90);
  return (
    <g class="axes">
      {valueTicks(max).map((value) => (
        <g key={value}>
          <path d={`M${SPACE.left},${y(value)}h${width}`} />
          <text x={SPACE.left - 8} y={y(value) + 4} text-anchor="end">
            {compact(value)}
          </text>
        </g>
      ))}
      {times.map((time, index) => (
        <g key={time}>
          <path d={`M${x(time)},${SPACE.top}V${BOTTOM + 5}`} />
          {tickLabel(time, times[index - 1]).map((text, row) => (
            <text key={row} x={x(time)} y={BOTTOM + 19 + 15 * row} text-anchor="middle">
              {text}
            </text>
          ))}
        </g>
      ))}
    </g>
  );
}

/** Height in pixels that a layer needs for its name. */
const NAME_HEIGHT = 16;

interface AreaProps {
  layer: Layer;
  /** The values below the layer. */
  bottoms: readonly number[];
  /** Start of each step, and the end of the last one. */
  ends: readonly number[];
  scale: Scale;
}

/** A layer, with its name in its highest step, so that colour is not the only sign. */
function Area({ layer: { name, color, values }, bottoms, ends, scale: { x, y } }: AreaProps) {
  const bars = values.map((value, index) => {
    const bottom = y(bottoms[index]!);
    // A value that is not 0 is at least a visible line.
    const top = Math.min(bottom - 1.5, y(bottoms[index]! + value));
    const [left, right] = [x(ends[index]!), x(ends[index + 1]!)];
    return value ? `M${left},${bottom}V${top}H${right}V${bottom}Z` : '';
  });
  const peak = values.indexOf(Math.max(...values));
  const center = (x(ends[peak]!) + x(ends[peak + 1]!)) / 2;
  const [low, high] = [y(bottoms[peak]!), y(bottoms[peak]! + values[peak]!)];
  return (
    <>
      <path class="area" style={{ fill: color }} d={bars.join('')} />
      {low - high >= NAME_HEIGHT && (
        <text
          class="name"
          x={Math.min(x(ends.at(-1)!) - 26, Math.max(SPACE.left + 26, center))}
          y={(low + high) / 2 + 4}
          text-anchor="middle"
        >
          {name}
        </text>
      )}
    </>
  );
}

/** Pixels from which a movement is not a click. */
const MIN_DRAG = 6;

/** Follows the pointer: a click opens decisions, and dragging selects a part. */
function Pointer({ scale, props }: { scale: Scale; props: Props }) {
  const [at, setAt] = useState<number | null>(null);
  const [from, setFrom] = useState<number | null>(null);
  const { width, start, end } = scale;
  /** Returns the position of the pointer in the plot, in pixels. */
  const position = (event: PointerEvent) => {
    const { left } = (event.currentTarget as Element).getBoundingClientRect();
    return Math.min(width, Math.max(0, event.clientX - left));
  };
  const toTime = (pixels: number) => start + ((end - start) * pixels) / width;
  const toStep = (pixels: number) =>
    Math.min(props.at.length - 1, Math.floor((toTime(pixels) - start) / props.step));
  const move = (pixels: number | null) => {
    setAt(pixels);
    props.onPoint(pixels === null ? null : toStep(pixels));
  };
  const begin = (event: PointerEvent) => {
    move(position(event));
    // A touch shows only the values of a step. On touch screens, users open decisions with the
    // links of the table, and enter the range.
    if (event.button !== 0 || event.pointerType === 'touch') return;
    (event.currentTarget as Element).setPointerCapture(event.pointerId);
    setFrom(position(event));
  };
  const finish = (event: PointerEvent) => {
    if (from === null) return;
    setFrom(null);
    const to = position(event);
    if (Math.abs(to - from) < MIN_DRAG) props.onPick(props.at[toStep(to)]!);
    else props.onZoom(toTime(Math.min(from, to)), toTime(Math.max(from, to)));
  };
  return (
    <g transform={`translate(${SPACE.left} ${SPACE.top})`}>
      {at !== null && <Cursor at={at} from={from} />}
      <rect
        class="plot"
        width={width}
        height={BOTTOM - SPACE.top}
        onPointerDown={begin}
        onPointerMove={(event) => move(position(event))}
        onPointerUp={finish}
        onPointerCancel={() => setFrom(null)}
        onPointerLeave={() => move(null)}
      />
    </g>
  );
}

interface CursorProps {
  /** Position of the pointer in the plot, in pixels. */
  at: number;
  /** Position at which the button was pressed; null if it is not pressed. */
  from: number | null;
}

function Cursor({ at, from }: CursorProps) {
  const height = BOTTOM - SPACE.top;
  const width = from === null ? 0 : Math.abs(at - from);
  return (
    <>
      <path class="cursor" d={`M${at},0V${height}`} />
      {from !== null && width >= MIN_DRAG && (
        <rect class="selection" x={Math.min(at, from)} width={width} height={height} />
      )}
    </>
  );
}

/** Returns the width of an element in pixels; 0 before it is known. */
function useWidth(host: RefObject<HTMLDivElement | null>): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry!.contentRect.width));
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, []);
  return width;
}
