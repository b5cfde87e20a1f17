// Requests per minute, by band or by action, as a chart or as a table. Dragging on the chart opens
// the selected range; users without a pointer enter it in the range picker.
import { useMemo, useState } from 'preact/hooks';
import { ACTIONS, BANDS, type Series } from '../api.ts';
import { Table } from '../components/table.tsx';
import { Panel, Time } from '../components/ui.tsx';
import { compact, count, duration, share } from '../format.ts';
import { link, navigate, parseLocation, STEP } from '../router.ts';
import { zones } from '../time.ts';
import { Chart, type Layer } from './chart.tsx';
import { align, type Earlier, nameOf } from './compare.tsx';
import { type ReleaseMark, ReleaseMarks, useReleaseMarks } from './release-marks.tsx';
import { rates, requests, sum } from './series.ts';

/** A layer of requests per minute, and the number of its requests. */
type TrafficLayer = Layer & { total: number };

const COLORS: Record<string, string> = {
  clear: 'var(--area-clear)',
  notice: 'var(--area-notice)',
  suspect: 'var(--area-suspect)',
  hostile: 'var(--area-hostile)',
  allow: 'var(--area-clear)',
  tag: 'var(--area-notice)',
  degrade: 'var(--area-suspect)',
  throttle: 'color-mix(in srgb, var(--area-suspect), var(--area-hostile))',
  block: 'var(--area-hostile)',
};

interface TrafficProps {
  series: Series;
  earlier: Earlier | undefined;
  /** Serial of the newest release. */
  serial: number | undefined;
}

export function Traffic({ series, earlier, serial }: TrafficProps) {
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
  const line = useMemo(() => earlier && toLine(series, earlier), [series, earlier]);
  const marks = useReleaseMarks(series, serial);
  const content = { series, layers, line, marks };
  const note = `mean per step of ${duration(series.step)}, times in ${zones(series.at)}`;
  return (
    <Panel title="Requests per minute" note={note} end={controls} class="two-thirds traffic">
      {isTable ? <RateTable {...content} /> : <RateChart key={by} {...content} />}
    </Panel>
  );
}

/** Requests per minute of an earlier range, by step of the current one. */
interface EarlierLine {
  name: string;
  values: number[];
  /** Number of requests. */
  total: number;
}

function toLine(series: Series, earlier: Earlier): EarlierLine {
  const counts = align(series, earlier, requests(earlier.series));
  const values = counts.map((value) => (60 * value) / series.step);
  return { name: `all, ${nameOf(earlier.comparison)}`, values, total: sum(counts) };
}

interface RatesProps {
  series: Series;
  layers: TrafficLayer[];
  line: EarlierLine | undefined;
  marks: readonly ReleaseMark[];
}

function RateChart({ series, layers, line, marks }: RatesProps) {
  const [hidden, setHidden] = useState<readonly string[]>([]);
  const [point, setPoint] = useState<number | null>(null);
  const [mark, setMark] = useState<string | null>(null);
  const onPick = (from: number) => void (location.hash = linkToStep(from, series.step));
  const onZoom = (from: number, to: number) => {
    const { step } = series;
    const compare = parseLocation().params.get('compare');
    const since = 1000 * step * Math.floor(from / step);
    const until = 1000 * step * Math.ceil(to / step);
    navigate('overview', { since, until, compare });
  };
  const visible = useMemo(
    () => layers.filter(({ name }) => !hidden.includes(name)),
    [layers, hidden],
  );
  const toggle = (name: string) =>
    setHidden(hidden.includes(name) ? hidden.filter((other) => other !== name) : [...hidden, name]);
  return (
    <>
      <div class="chart-frame">
        <Chart
          at={series.at}
          step={series.step}
          layers={visible}
          earlier={line?.values}
          label="Requests per minute over time; the table has the same numbers"
          onPoint={setPoint}
          onPick={onPick}
          onZoom={onZoom}
        />
        {marks.length > 0 && <ReleaseMarks {...{ series, marks }} onShow={setMark} />}
      </div>
      <Legend layers={layers} hidden={hidden} point={point} line={line} onToggle={toggle} />
      <PointTime series={series} point={point} mark={mark} />
    </>
  );
}

interface LegendProps {
  layers: TrafficLayer[];
  hidden: readonly string[];
  /** Index of the step below the pointer; null if it is outside. */
  point: number | null;
  line: EarlierLine | undefined;
  onToggle(name: string): void;
}

function Legend({ layers, hidden, point, line, onToggle }: LegendProps) {
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
            <AtPoint values={layer.values} point={point} />
          </li>
        );
      })}
      {line && (
        <li>
          <span class="earlier">
            {line.name} <b>{compact(Math.round(line.total))}</b>
          </span>
          <AtPoint values={line.values} point={point} />
        </li>
      )}
    </ul>
  );
}

/** The value of the step below the pointer. */
const AtPoint = ({ values, point }: { values: readonly number[]; point: number | null }) => (
  <span class="at-point">
    {point === null ? ' ' : `${formatRate(values[point] ?? 0)} per minute`}
  </span>
);

interface PointTimeProps {
  series: Series;
  point: number | null;
  /** Text of a release. */
  mark: string | null;
}

function PointTime({ series, point, mark }: PointTimeProps) {
  const at = point === null ? undefined : series.at[point];
  return (
    <p class="point-time note">
      {mark ??
        (at === undefined ? (
          'Point at the chart to see values, click it to see decisions, drag to zoom, press a ' +
          'name to hide it.'
        ) : (
          <>
            Step from <Time at={at * 1000} precision="minute" />. Click to see its decisions.
          </>
        ))}
    </p>
  );
}

function RateTable({ series, layers, line, marks }: RatesProps) {
  const steps = series.at.map((at, step) => ({ at, step })).toReversed();
  const all = line ? [...layers, line] : layers;
  const columns = all.map(({ name }) => ({ title: name, number: true }));
  return (
    <Table
      label="Requests per minute, as a table"
      frame="rates"
      columns={['From', ...columns, ...(marks.length ? ['Release'] : [])]}
    >
      {steps.map(({ at, step }) => (
        <tr key={at}>
          <th scope="row" class="nowrap">
            <a href={linkToStep(at, series.step)}>
              <span class="visually-hidden">Decisions from </span>
              <Time at={at * 1000} precision="minute" />
            </a>
          </th>
          {all.map(({ name, values }) => (
            <td key={name} class="number">
              {formatRate(values[step] ?? 0)}
            </td>
          ))}
          {marks.length > 0 && <Released marks={marks} from={at} to={at + series.step} />}
        </tr>
      ))}
    </Table>
  );
}

interface ReleasedProps {
  marks: readonly ReleaseMark[];
  /** Start and end of a step, in seconds since the epoch. */
  from: number;
  to: number;
}

/** The releases of a step. */
function Released({ marks, from, to }: ReleasedProps) {
  const inStep = marks.filter(({ at }) => at >= from && at < to);
  return (
    <td title={inStep.map(({ text }) => text).join('\n')}>
      {inStep.map(({ serial }) => serial).join(', ')}
    </td>
  );
}

const formatRate = (value: number) =>
  value >= 10 || Number.isInteger(value) ? count(Math.round(value)) : value.toFixed(1);

/** Returns the link to the decisions of one step. */
const linkToStep = (from: number, seconds: number) =>
  link('decisions', { [STEP]: `${from * 1000}-${(from + seconds) * 1000}` });
