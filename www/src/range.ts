// The time range in the address: the last minutes, or from one time to another. Links carry it from
// view to view.
import { useRef } from 'preact/hooks';
import { serverNow } from './api.ts';
import { link, parseLocation, RANGE_PARAMS } from './router.ts';

/** A minute in milliseconds. */
export const MINUTE = 60_000;
const DAY = 1440 * MINUTE;

/** The longest range in minutes. */
const MAX_MINUTES = 43_200;
/** Milliseconds for which the ledger keeps counts. */
const KEPT = 31 * DAY;

/** The earlier range with which a range is compared. */
export const COMPARISONS = { day: DAY, week: 7 * DAY } as const;
export type Comparison = keyof typeof COMPARISONS;

export interface Range {
  /** Length in minutes. */
  minutes: number;
  /** Start and end of a fixed range, in milliseconds since the epoch; undefined if it ends now. */
  fixed?: { since: number; until: number };
  compare: Comparison | null;
}

/** Returns the server's time in milliseconds since the epoch. */
const now = () => Math.round(1000 * serverNow());

/** Returns the time `minutes` before the start of the current minute. */
export const minutesAgo = (minutes: number) => (Math.floor(now() / MINUTE) - minutes) * MINUTE;

/** Parses the minutes of a range that ends now. Returns null if the address has none to choose. */
export const parseMinutes = (params: URLSearchParams): number | null =>
  RANGES.find(([minutes]) => String(minutes) === params.get('minutes'))?.[0] ?? null;

/** Parses the range of the address. `now` is in milliseconds since the epoch. */
export function parseRange(params: URLSearchParams, now: number): Range {
  const wanted = params.get('compare') ?? '';
  const compare = Object.hasOwn(COMPARISONS, wanted) ? (wanted as Comparison) : null;
  const time = (name: string) => Number(params.get(name) || NaN);
  const until = Math.min(now, time('until') || now);
  const since = Math.max(time('since'), until - MAX_MINUTES * MINUTE);
  if (since < until) {
    const minutes = Math.ceil((until - since) / MINUTE);
    return { minutes, fixed: { since, until }, compare };
  }
  return { minutes: parseMinutes(params) ?? 60, compare };
}

/** Returns the range of the address. A range without an end ends when it is first shown. */
export function useRange(params: URLSearchParams): Range {
  const last = useRef<{ key: string; range: Range }>(undefined);
  const key = RANGE_PARAMS.map((name) => params.get(name)).join();
  if (last.current?.key !== key) {
    last.current = { key, range: parseRange(params, now()) };
  }
  return last.current.range;
}

/** Returns the parameters of a range for the address. */
export const toParams = ({ minutes, fixed, compare }: Range) => ({
  ...(fixed ?? { minutes }),
  compare,
});

/**
 * Returns the query for the counts of a range. Counts are kept by minute, so the query has all
 * minutes that the range touches.
 */
export function toQuery({ minutes, fixed }: Range): string {
  if (!fixed) return `minutes=${minutes}`;
  const until = Math.ceil(fixed.until / MINUTE);
  const length = Math.min(MAX_MINUTES, until - Math.floor(fixed.since / MINUTE));
  return `minutes=${length}&until=${until * MINUTE}`;
}

/**
 * Returns the query for the counts of the range with which a range is compared. Returns null if
 * there is nothing to compare: no comparison is chosen, or the counts are deleted.
 */
export function toEarlierQuery({ minutes, fixed, compare }: Range): string | null {
  if (!compare) return null;
  // Rounded up, so that a range that ends now needs a new query only once a minute.
  const end = fixed?.until ?? Math.ceil(now() / MINUTE) * MINUTE;
  const start = fixed?.since ?? end - minutes * MINUTE;
  const [since, until] = [start - COMPARISONS[compare], end - COMPARISONS[compare]];
  return since < now() - KEPT ? null : toQuery({ minutes, fixed: { since, until }, compare });
}

/** Returns a range three times as long around a range, but not after now. */
export function zoomOut({ since, until }: NonNullable<Range['fixed']>) {
  const length = Math.max(MINUTE, until - since);
  const end = Math.min(now(), until + length);
  return { since: Math.round(Math.max(0, end - 3 * length)), until: Math.round(end) };
}

/**
 * Returns the link from the overview to the decisions with a signature. The range is the shown one,
 * even if the address has none.
 */
export function linkToHits(signature: string): string {
  const { minutes, fixed, compare } = parseRange(parseLocation().params, now());
  return link('decisions', fixed ? { signature } : { minutes, compare, signature });
}

/** Time ranges in minutes, with their labels after “Last”. */
export const RANGES: readonly [number, string][] = [
  [15, '15 minutes'],
  [60, 'hour'],
  [360, '6 hours'],
  [1440, '24 hours'],
  [10_080, '7 days'],
  [43_200, '30 days'],
];
