// Requests a minute, by band or by what was done with them; as a chart or as a table.
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { ACTIONS, ApiError, BANDS, type Series } from '../api.ts';
import type { Layer } from '../components/chart.tsx';
import { Panel, Time } from '../components/parts.tsx';
import { Problem } from '../components/states.tsx';
import { Table } from '../components/table.tsx';
import { compact, count, share } from '../format.ts';
import { go, link } from '../router.ts';
import { clock, rates, sum } from './series.ts';

type By = 'band' | 'action';
/** `values` are requests a minute, `total` is how many there are. */
type Split = Layer & { total: number };
const COLORS: Record<string, string> = {
  clear: 'var(--clear)', notice: 'var(--notice)', suspect: 'var(--suspect)', hostile: 'var(--hostile)',
  allow: 'var(--clear)', tag: 'var(--notice)', degrade: 'var(--suspect)', throttle: 'color-mix(in srgb, var(--suspect), var(--hostile))', block: 'var(--hostile)',
};

export function Traffic({ series }: { series: Series }) {
  const [by, setBy] = useState<By>('band');
  const [table, setTable] = useState(false);
  const end = (
    <>
      <span class="segments" role="group" aria-label="Split by">
        {(['band', 'action'] as const).map((kind) => (
          <button key={kind} type="button" aria-pressed={by === kind} onClick={() => setBy(kind)}>
            By {kind}
          </button>
        ))}
      </span>
      <button type="button" aria-pressed={table} onClick={() => setTable(!table)}>
        Show as table
      </button>
    </>
  );
  // The gravest lie at the bottom, where changes are seen best.
  const all = useMemo<Split[]>(() => {
    const rows: Record<string, number[]> = by === 'band' ? series.bands : series.actions;
    const names = by === 'band' ? BANDS : ACTIONS;
    return names.toReversed().map((name) => ({ name, color: COLORS[name]!, values: rates(series, rows[name] ?? []), total: sum(rows[name] ?? []) }));
  }, [series, by]);
  return (
    <Panel title="Requests a minute" end={end} class="two-thirds traffic">
      {table ? <Rates series={series} layers={all} /> : <Drawn key={by} series={series} layers={all} />}
    </Panel>
  );
}

function Drawn({ series, layers }: { series: Series; layers: Split[] }) {
  const [hidden, hide] = useState<readonly string[]>([]);
  const [point, setPoint] = useState<number | null>(null);
  const Chart = useChart();
  const onPick = useCallback((from: number) => go('decisions', within(from, series.step)), [series.step]);
  const visible = useMemo(() => layers.filter(({ name }) => !hidden.includes(name)), [layers, hidden]);
  const toggle = (name: string) => hide(hidden.includes(name) ? hidden.filter((own) => own !== name) : [...hidden, name]);
  const onPoint = useCallback((step: number | null) => setPoint(step), []);
  const all = sum(layers.map(({ total }) => total));
  const at = point === null ? undefined : series.at[point];
  return (
    <>
      <div class="chart-room">
        {Chart === null && <Problem error={MISSING} retry={() => location.reload()} action="Reload the page" />}
        {Chart && <Chart at={series.at} minutes={series.minutes} layers={visible} label="Requests a minute over time; the table has the same numbers" onPoint={onPoint} onPick={onPick} />}
      </div>
      <ul class="legend">
        {layers.map(({ name, color, values, total }) => (
          <li key={name}>
            <button type="button" class="quiet" aria-pressed={!hidden.includes(name)} onClick={() => toggle(name)} title={hidden.includes(name) ? `Show ${name}` : `Hide ${name}`}>
              <span class="swatch" style={{ background: color }} /> {name} <b>{compact(total)}</b> <span class="share">{share(total, all)}</span>
            </button>
            <span class="at-point">{at === undefined ? ' ' : `${shown(values[point!] ?? 0)} a minute`}</span>
          </li>
        ))}
      </ul>
      <p class="point-time note">
        {at === undefined ? (
          'Point at the chart for its values, click it for the decisions; press a name to hide it.'
        ) : (
          <>
            In the step from <Time at={at * 1000} text={clock(at, series.minutes)} />, {utc(at)} UTC. Click for its decisions.
          </>
        )}
      </p>
    </>
  );
}

function Rates({ series, layers }: { series: Series; layers: Layer[] }) {
  const steps = series.at.map((at, step) => ({ at, step })).toReversed();
  return (
    <Table label="Requests a minute, as a table" frame="rates" columns={['From, local time', ...layers.map(({ name }) => ({ title: name, number: true }))]}>
      {steps.map(({ at, step }) => (
        <tr key={at}>
          <th scope="row" class="nowrap">
            <a href={link('decisions', within(at, series.step))}>
              <span class="visually-hidden">Decisions from </span>
              <Time at={at * 1000} text={clock(at, series.minutes)} />
            </a>
          </th>
          {layers.map(({ name, values }) => (
            <td key={name} class="number">
              {shown(values[step] ?? 0)}
            </td>
          ))}
        </tr>
      ))}
    </Table>
  );
}

const shown = (value: number) => (value >= 10 || Number.isInteger(value) ? count(Math.round(value)) : value.toFixed(1));

/** The line under the chart cannot be pointed at: whoever points at the chart sees UTC at once. */
const utc = (at: number) => new Date(at * 1000).toISOString().slice(0, 16).replace('T', ' ');

/** The decisions of one step. */
const within = (from: number, seconds: number) => ({ since: from * 1000, until: (from + seconds) * 1000 });

const MISSING = new ApiError(0, 'missing', 'the chart cannot be loaded', 'the console was updated, or you are offline: reload the page; the table has the same numbers');

/** Null where it cannot be had. */
function useChart() {
  const [chart, set] = useState<{ body: typeof import('../components/chart.tsx').default | null }>();
  useEffect(() => {
    let gone = false;
    const got = (body: typeof import('../components/chart.tsx').default | null) => gone || set({ body });
    import('../components/chart.tsx').then(({ default: body }) => got(body), () => got(null));
    return () => {
      gone = true;
    };
  }, []);
  return chart?.body;
}
