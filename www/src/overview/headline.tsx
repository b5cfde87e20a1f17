import type { ComponentChildren } from 'preact';
import type { Series } from '../api.ts';
import { compact, count, share } from '../format.ts';
import { Trend } from './parts.tsx';
import { curbed, halves, requests, sum, suspect } from './series.ts';

/** What there is to know at a glance. `shadow` is the share of traffic in that mode; null where nobody knows, undefined where nobody knows yet. */
export function Headline({ series, shadow }: { series: Series; shadow: number | null | undefined }) {
  const all = requests(series);
  const total = sum(all);
  const [before, after] = halves(all);
  // Without requests there is no share: NaN.
  const parts = (rows: number[]) => halves(rows).map((part, half) => part / (half ? after : before)) as [number, number];
  const [suspects, curbs] = [suspect(series), curbed(series)];
  const errors = sum(series.errors.map((error) => error.count));
  const failures = all.map((_, step) => sum(series.errors.map(({ points }) => points[step] ?? 0)));
  const [suspectBefore, suspectAfter] = parts(suspects);
  const [curbedBefore, curbedAfter] = parts(curbs);
  const [failedBefore, failedAfter] = halves(failures);
  return (
    <dl class="headline">
      <Figure name="Requests" value={compact(total)} full={count(total)}>
        <Trend first={before} second={after} where />
      </Figure>
      <Figure name="Suspect or worse" value={share(sum(suspects), total)} full={`${count(sum(suspects))} requests`}>
        <Trend first={suspectBefore} second={suspectAfter} points where />
      </Figure>
      <Figure name="Refused or degraded" value={share(sum(curbs), total)} full={`${count(sum(curbs))} requests`}>
        <Trend first={curbedBefore} second={curbedAfter} points where />
        {inShadow(shadow)}
      </Figure>
      <Figure name="Errors and fail-opens" value={compact(errors)} full={count(errors)} bad={errors > 0}>
        <Trend first={failedBefore} second={failedAfter} where />
      </Figure>
    </dl>
  );
}

function inShadow(part: number | null | undefined): string {
  if (part == null) return part === null ? '; mode unknown' : '; mode not known yet';
  return part ? `; ${part === 1 ? 'all traffic' : share(part, 1)} in shadow, recorded only` : '';
}

function Figure({ name, value, full, bad = false, children }: { name: string; value: string; full: string; bad?: boolean; children: ComponentChildren }) {
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
