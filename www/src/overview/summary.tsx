import type { ComponentChildren } from 'preact';
import type { Series } from '../api.ts';
import { compact, count, share } from '../format.ts';
import { enforced, requests, splitHalves, sum, suspicious } from './series.ts';
import { Trend } from './trend.tsx';

interface Props {
  series: Series;
  /** Share of traffic in shadow mode; null if it is unknown, undefined while it is loading. */
  shadow: number | null | undefined;
}

/** The most important numbers, with their trends. */
export function Summary({ series, shadow }: Props) {
  const allRequests = requests(series);
  const total = sum(allRequests);
  const [before, after] = splitHalves(allRequests);
  const suspiciousRequests = suspicious(series);
  const enforcedRequests = enforced(series);
  const errorTotal = sum(series.errors.map((error) => error.count));
  const errors = allRequests.map((_, step) =>
    sum(series.errors.map(({ points }) => points[step] ?? 0)),
  );
  // A half without requests has no share, so its value is NaN.
  const shares = (counts: number[]) => {
    const [first, second] = splitHalves(counts);
    return { first: first / before, second: second / after };
  };
  const [errorsBefore, errorsAfter] = splitHalves(errors);
  return (
    <dl class="summary">
      <Figure name="Requests" value={compact(total)} full={count(total)}>
        <Trend first={before} second={after} explained />
      </Figure>
      <Figure
        name="Suspect or hostile"
        value={share(sum(suspiciousRequests), total)}
        full={`${count(sum(suspiciousRequests))} requests`}
      >
        <Trend {...shares(suspiciousRequests)} points explained />
      </Figure>
      <Figure
        name={curbedName(shadow)}
        value={share(sum(enforcedRequests), total)}
        full={`${count(sum(enforcedRequests))} requests`}
      >
        <Trend {...shares(enforcedRequests)} points explained />
        {shadowNote(shadow)}
      </Figure>
      <Figure
        name="Errors and fail-opens"
        value={compact(errorTotal)}
        full={count(errorTotal)}
        bad={errorTotal > 0}
      >
        <Trend first={errorsBefore} second={errorsAfter} explained />
      </Figure>
    </dl>
  );
}

/** Returns the name for requests with such an action. In shadow mode, it is not carried out. */
function curbedName(shadow: number | null | undefined): string {
  if (shadow === 1) return 'Would be degraded or refused';
  return shadow === 0 ? 'Degraded or refused' : 'Degraded or refused, or would be';
}

function shadowNote(part: number | null | undefined): string {
  if (part === undefined) return '; mode not loaded yet';
  if (part === null) return '; mode unknown';
  return part ? `; ${part === 1 ? 'all traffic' : share(part, 1)} in shadow, recorded only` : '';
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
