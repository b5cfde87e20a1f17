// Chooses the time range, and the earlier range with which it is compared.
import { useEffect, useMemo, useState } from 'preact/hooks';
import {
  type Comparison,
  COMPARISONS,
  minutesAgo,
  type Range,
  RANGES,
  toParams,
  zoomOut,
} from '../range.ts';
import { navigate } from '../router.ts';
import { fromInput, toInput, useUtc, zone } from '../time.ts';
import { nameOf } from './compare.tsx';

/** Value of the option for a range between two times. */
const FIXED = 'fixed';

interface Props {
  range: Range;
  /** State of the comparison, if it does not show. */
  note?: string | undefined;
}

export function RangePicker({ range, note }: Props) {
  const { minutes, fixed, compare } = range;
  const choose = (value: string) => {
    const [since, until] = [minutesAgo(minutes), minutesAgo(0)];
    navigate('overview', { ...(value === FIXED ? { since, until } : { minutes: value }), compare });
  };
  return (
    <>
      <label for="minutes">{fixed ? 'Range' : 'Last'}</label>
      <select
        id="minutes"
        value={fixed ? FIXED : String(minutes)}
        onChange={(event) => choose(event.currentTarget.value)}
      >
        {RANGES.map(([range, name]) => (
          <option key={range} value={range}>
            {fixed ? `last ${name}` : name}
          </option>
        ))}
        <option value={FIXED}>{fixed ? 'from … to' : 'or from … to'}</option>
      </select>
      {fixed && <Ends fixed={fixed} compare={compare} />}
      <label for="compare">Compare with</label>
      <select
        id="compare"
        value={compare ?? ''}
        onChange={(event) =>
          navigate('overview', { ...toParams(range), compare: event.currentTarget.value })
        }
      >
        <option value="">nothing</option>
        {(Object.keys(COMPARISONS) as Comparison[]).map((name) => (
          <option key={name} value={name}>
            {nameOf(name)}
          </option>
        ))}
      </select>
      {note && <span class="note">{note}</span>}
    </>
  );
}

interface EndsProps {
  fixed: NonNullable<Range['fixed']>;
  compare: Comparison | null;
}

/** The ends of a fixed range, and a way back from a zoom. */
function Ends({ fixed, compare }: EndsProps) {
  const [problem, setProblem] = useState('');
  const utc = useUtc();
  const { since, until } = fixed;
  useEffect(() => setProblem(''), [since, until, compare]);
  const change = (ends: Partial<typeof fixed>) => {
    const next = { ...fixed, ...ends };
    if (next.since < next.until) navigate('overview', { ...next, compare });
    else setProblem('“From” must be before “to”.');
  };
  const input = (label: string, name: 'since' | 'until') => (
    <label class="row">
      {label}
      <input
        type="datetime-local"
        name={name}
        value={toInput(fixed[name])}
        onChange={(event) => {
          const at = fromInput(event.currentTarget.value);
          // Ignores times before 1970, which the first digits of a year mean while the user types.
          if (at > 0) change({ [name]: at });
        }}
      />
    </label>
  );
  // Memoised, so that neither a new answer nor the problem resets the input while the user types.
  const inputs = useMemo(
    () => (
      <>
        {input(`From (${zone(since)})`, 'since')}
        {input(`To (${zone(until)})`, 'until')}
      </>
    ),
    [since, until, compare, utc],
  );
  return (
    <>
      {inputs}
      <button type="button" onClick={() => change(zoomOut(fixed))}>
        Zoom out
      </button>
      <span class="bad" role="alert">
        {problem}
      </span>
    </>
  );
}
