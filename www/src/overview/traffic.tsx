// Requests per minute, by band or by action, as a chart or as a table.
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { ACTIONS, ApiError, BANDS, type Series } from '../api.ts';
import { Problem } from '../components/async-states.tsx';
import { Table } from '../components/table.tsx';
import { Panel, Time } from '../components/ui.tsx';
import { compact, count, share } from '../format.ts';
import { link, navigate } from '../router.ts';
import type { Layer } from './chart.tsx';
import { formatStep, rates, sum } from './series.ts';

/** A layer of requests per minute, and the number of its requests. */
type TrafficLayer = Layer & { total: number };

const COLORS: Record<string, string> = {
  clear: 'var(--clear)',
  notice: 'var(--notice)',
  suspect: 'var(--suspect)',
  hostile: 'var(--hostile)',
  allow: 'var(--clear)',
  tag: 'var(--notice)',
  degrade: 'var(--suspect)',
  throttle: 'color-mix(in srgb, var(--suspect), var(--hostile))',
  block: 'var(--hostile)',
};

export function Traffic({ series }: { series: Series }) {
  const [by, setBy] = useState<'band' | 'action'>('band');
  const [isTable, setIsTable] = useState(false);
  const controls = (
    <>
      <span class="segments" role="group" aria-label="Split by">
        {(['band', 'action'] as const).map((kind) => (
          <button key={kind} type="button" aria-pressed={by === kind} onClick={() => setBy(kind)}>
            By {kind}
          </button>
        ))}
      </span>
      <button type="button" aria-pressed={isTable} onClick={() => setIsTable(!isTable)}>
        Show as table
      </button>
    </>
  );
  // Puts the most severe layers at the bottom, where changes are most visible.
  const layers = useMemo<TrafficLayer[]>(() => {
    const rows: Record<string, number[]> = by === 'band' ? series.bands : series.actions;
    const names = by === 'band' ? BANDS : ACTIONS;
    return names.toReversed().map((name) => ({
      name,
      color: COLORS[name]!,
      values: rates(series, rows[name] ?? []),
      total: sum(rows[name] ?? []),
    }));
  }, [series, by]);
  return (
    <Panel title="Requests per minute" end={controls} class="two-thirds traffic">
      {isTable ? (
        <RateTable series={series} layers={layers} />
      ) : (
        <RateChart key={by} series={series} layers={layers} />
      )}
    </Panel>
  );
}

interface RatesProps {
  series: Series;
  layers: TrafficLayer[];
}

function RateChart({ series, layers }: RatesProps) {
  const [hidden, setHidden] = useState<readonly string[]>([]);
  const [point, setPoint] = useState<number | null>(null);
  const Chart = useChart();
  const onPick = useCallback(
    (from: number) => navigate('decisions', stepRange(from, series.step)),
    [series.step],
  );
  const onPoint = useCallback((step: number | null) => setPoint(step), []);
  const visible = useMemo(
    () => layers.filter(({ name }) => !hidden.includes(name)),
    [layers, hidden],
  );
  const toggle = (name: string) =>
    setHidden(hidden.includes(name) ? hidden.filter((other) => other !== name) : [...hidden, name]);
  return (
    <>
      <div class="chart-frame">
        {Chart === null && (
          <Problem error={CHART_ERROR} retry={() => location.reload()} action="Reload the page" />
        )}
        {Chart && (
          <Chart
            at={series.at}
            minutes={series.minutes}
            layers={visible}
            label="Requests per minute over time; the table has the same numbers"
            onPoint={onPoint}
            onPick={onPick}
          />
        )}
      </div>
      <Legend layers={layers} hidden={hidden} point={point} onToggle={toggle} />
      <PointTime series={series} point={point} />
    </>
  );
}

interface LegendProps {
  layers: TrafficLayer[];
  hidden: readonly string[];
  /** Index of the step below the pointer; null if it is outside. */
  point: number | null;
  onToggle(name: string): void;
}

function Legend({ layers, hidden, point, onToggle }: LegendProps) {
  const total = sum(layers.map(({ total }) => total));
  return (
    <ul class="legend">
      {layers.map((layer) => {
        const isHidden = hidden.includes(layer.name);
        return (
          <li key={layer.name}>
            <button
              type="button"
              class="quiet"
              aria-pressed={!isHidden}
              onClick={() => onToggle(layer.name)}
              title={`${isHidden ? 'Show' : 'Hide'} ${layer.name}`}
            >
              <span class="swatch" style={{ background: layer.color }} /> {layer.name}{' '}
              <b>{compact(layer.total)}</b> <span class="share">{share(layer.total, total)}</span>
            </button>
            <span class="at-point">
              {point === null ? ' ' : `${formatRate(layer.values[point] ?? 0)} per minute`}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

function PointTime({ series, point }: { series: Series; point: number | null }) {
  const at = point === null ? undefined : series.at[point];
  return (
    <p class="point-time note">
      {at === undefined ? (
        'Point at the chart to see values, click it to see decisions, press a name to hide it.'
      ) : (
        <>
          Step from <Time at={at * 1000} text={formatStep(at, series.minutes)} />, {formatUtc(at)}.
          Click to see its decisions.
        </>
      )}
    </p>
  );
}

function RateTable({ series, layers }: RatesProps) {
  const steps = series.at.map((at, step) => ({ at, step })).toReversed();
  const columns = layers.map(({ name }) => ({ title: name, number: true }));
  return (
    <Table
      label="Requests per minute, as a table"
      frame="rates"
      columns={['From, local time', ...columns]}
    >
      {steps.map(({ at, step }) => (
        <tr key={at}>
          <th scope="row" class="nowrap">
            <a href={link('decisions', stepRange(at, series.step))}>
              <span class="visually-hidden">Decisions from </span>
              <Time at={at * 1000} text={formatStep(at, series.minutes)} />
            </a>
          </th>
          {layers.map(({ name, values }) => (
            <td key={name} class="number">
              {formatRate(values[step] ?? 0)}
            </td>
          ))}
        </tr>
      ))}
    </Table>
  );
}

const formatRate = (value: number) =>
  value >= 10 || Number.isInteger(value) ? count(Math.round(value)) : value.toFixed(1);

/**
 * Formats a time in UTC. `Time` shows UTC only on hover, which is impossible while the pointer is
 * on the chart.
 */
const formatUtc = (at: number) =>
  `${new Date(at * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

/** Returns the filters that select the decisions of one step. */
const stepRange = (from: number, seconds: number) => ({
  since: from * 1000,
  until: (from + seconds) * 1000,
});

const CHART_ERROR = new ApiError(
  0,
  'missing',
  'the chart could not be loaded: the console was updated, or you are offline',
  'reload the page; the table has the same numbers',
);

type ChartComponent = typeof import('./chart.tsx').default;

/** Loads the chart. Returns undefined while it is loading, and null if that failed. */
function useChart(): ChartComponent | null | undefined {
  // Wrapped in an object, because a state setter calls a function that it gets.
  const [chart, setChart] = useState<{ component: ChartComponent | null }>();
  useEffect(() => {
    let unmounted = false;
    const set = (component: ChartComponent | null) => unmounted || setChart({ component });
    import('./chart.tsx').then(
      (module) => set(module.default),
      () => set(null),
    );
    return () => {
      unmounted = true;
    };
  }, []);
  return chart?.component;
}
