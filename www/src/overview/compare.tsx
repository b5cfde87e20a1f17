// Changes against an earlier range of the same length.
import type { Series } from '../api.ts';
import { count, share } from '../format.ts';
import { type Comparison, COMPARISONS } from '../range.ts';
import { isOpen, sum } from './series.ts';

/** The counts of an earlier range. */
export interface Earlier {
  series: Series;
  comparison: Comparison;
}

/** Names an earlier range: “a day earlier”. */
export const nameOf = (comparison: Comparison) => `a ${comparison} earlier`;

/**
 * Converts counts of the earlier range to the steps of `series`. If the steps of the earlier range
 * are longer, which is the case if minutes are no longer kept, each count is divided evenly.
 */
export function align(series: Series, earlier: Earlier, points: readonly number[]): number[] {
  const { at, step } = earlier.series;
  const shift = COMPARISONS[earlier.comparison] / 1000;
  const part = Math.min(1, series.step / step);
  return series.at.map((start) => {
    const index = Math.floor((start - shift - (at[0] ?? 0)) / step);
    return (points[index] ?? 0) * part;
  });
}

/** Returns the sum of the steps that are over. A step that is still counted is not comparable. */
export const sumOfOver = (series: Series, points: readonly number[]) =>
  sum(isOpen(series) ? points.slice(0, -1) : points);

interface Props {
  series: Series;
  /** Undefined if nothing is compared, or if the earlier counts are not loaded. */
  earlier: Earlier | undefined;
  /** Counts by step. */
  now: readonly number[];
  /** Counts by step of the earlier range; undefined if they are not known. */
  before: readonly number[] | undefined;
  /** If given, shares of these totals are compared, in percentage points. */
  totals?: { now: readonly number[]; before: readonly number[] };
  /** Names the earlier range. */
  explained?: boolean;
}

/** The change against the earlier range, with the earlier count. */
export function Change({ series, earlier, now, before, totals, explained = false }: Props) {
  if (!earlier) return null;
  const name = nameOf(earlier.comparison);
  if (!before) return <span class="trend" title={`unknown ${name}`}>–</span>;
  const over = (points: readonly number[]) => sumOfOver(series, points);
  const earlierCount = (points: readonly number[]) => over(align(series, earlier, points));
  if (totals && !earlierCount(totals.before)) {
    return <span class="trend">no requests {name}</span>;
  }
  const [after, first] = [over(now), earlierCount(before)];
  const isExact = earlier.series.step <= series.step;
  const counted = `${isExact ? '' : 'about '}${count(Math.round(first))}`;
  const text = totals
    ? pointsChange(after / over(totals.now), first / earlierCount(totals.before))
    : relativeChange(first, after);
  const reference = totals ? share(first, earlierCount(totals.before)) : counted;
  return (
    <span class="trend">
      {text} <span class="note">({reference}{explained ? ` ${name}` : ''})</span>
      {!explained && <span class="visually-hidden"> {name}</span>}
    </span>
  );
}

/** Formats a change in per cent: “▲ 12 %”. */
function relativeChange(first: number, second: number): string {
  if (!first) return second ? '▲ from 0' : '0 %';
  const percent = Math.round((100 * (second - first)) / first);
  if (percent > 999) return `▲ × ${Math.round(second / first)}`;
  return `${arrow(percent)}${Math.abs(percent)} %`;
}

/** Formats the change of a share in percentage points. A share of no requests is unknown. */
function pointsChange(now: number, before: number): string {
  const points = 100 * (now - before);
  return Number.isNaN(points) ? '–' : `${arrow(points)}${Math.abs(points).toFixed(1)} points`;
}

const arrow = (change: number) => (change > 0.05 ? '▲ ' : change < -0.05 ? '▼ ' : '');
