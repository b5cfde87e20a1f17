import type { ComponentChildren } from 'preact';
import type { Series } from '../api.ts';
import { compact, count, share } from '../format.ts';
import { Change, type Earlier } from './compare.tsx';
import { enforced, requests, sum, suspicious } from './series.ts';

interface Props {
  series: Series;
  earlier: Earlier | undefined;
  /** Share of traffic in shadow mode; null if it is unknown, undefined while it is loading. */
  shadow: number | null | undefined;
}

/** The most important numbers, with their changes. */
export function Summary({ series, earlier, shadow }: Props) {
  const allRequests = requests(series);
  const total = sum(allRequests);
  const suspiciousRequests = suspicious(series);
  const enforcedRequests = enforced(series);
  const errorTotal = sum(series.errors.map((error) => error.count));
  const change = (select: (series: Series) => number[], isShare: boolean) => {
    const of = (select: (series: Series) => number[]) => ({
      now: select(series),
      before: earlier && select(earlier.series),
    });
    const { now, before = [] } = of(requests);
    const totals = isShare ? { now, before } : undefined;
    return <Change {...{ series, earlier, totals }} {...of(select)} explained />;
  };
  return (
    <dl class="summary">
      <Figure name="Requests" value={compact(total)} full={count(total)}>
        {change(requests, false)}
      </Figure>
      <Figure
        name="Suspect or hostile"
        value={share(sum(suspiciousRequests), total)}
        full={`${count(sum(suspiciousRequests))} requests`}
      >
        {change(suspicious, true)}
      </Figure>
      <Figure
        name={curbedName(shadow)}
        value={share(sum(enforcedRequests), total)}
        full={`${count(sum(enforcedRequests))} requests`}
      >
        {change(enforced, true)}
        {shadowNote(shadow)}
      </Figure>
      <Figure
        name="Errors and fail-opens"
        value={compact(errorTotal)}
        full={count(errorTotal)}
        bad={errorTotal > 0}
      >
        {change(failures, false)}
      </Figure>
    </dl>
  );
}

/** Returns the failures per step. */
const failures = (series: Series) =>
  series.at.map((_, step) => sum(series.errors.map(({ points }) => points[step] ?? 0)));
/** Returns the name for requests with such an action. In shadow mode, it is not carried out. */
function curbedName(shadow: number | null | undefined): string {
  if (shadow === 1) return 'Would be degraded or refused';
  return shadow === 0 ? 'Degraded or refused' : 'Degraded or refused, or would be';
}

function shadowNote(part: number | null | undefined): string {
  if (part === undefined) return ' mode not loaded yet';
  if (part === null) return ' mode unknown';
  return part ? ` ${part === 1 ? 'all traffic' : share(part, 1)} in shadow, recorded only` : '';
}

interface FigureProps {
  name: string;
  value: string;
  /** Text on hover: the exact value. */
  full: string;
  bad?: boolean;
  children: ComponentChildren;
}

function Figure({ name, value, full, bad = false, children }: FigureProps) {
  return (
    <div class="panel">
      <dt>{name}</dt>
      <dd class={`figure ${bad ? 'bad' : ''}`} title={full}>
        {value}
      </dd>
      <dd class="note">{children}</dd>
    </div>
  );
}
