// Sums and rates of the counts over time.
import { type Action, type Band, type Series, serverNow } from '../api.ts';

export const sum = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

/** Adds up the named rows, step by step. */
function total<Name extends string>(
  rows: Record<Name, number[]>,
  names: readonly Name[],
): number[] {
  const selected = names.map((name) => rows[name] ?? []);
  const steps = Math.max(0, ...selected.map((row) => row.length));
  return Array.from({ length: steps }, (_, step) => sum(selected.map((row) => row[step] ?? 0)));
}

/** Returns the requests per step. */
export const requests = (series: Series) =>
  total<Action>(series.actions, ['allow', 'tag', 'degrade', 'throttle', 'block']);

/** Returns the suspect and hostile requests per step. */
export const suspicious = (series: Series) => total<Band>(series.bands, ['suspect', 'hostile']);

/**
 * Returns the requests per step with action degrade, throttle or block. In shadow mode, the action
 * is only recorded.
 */
export const enforced = (series: Series) =>
  total<Action>(series.actions, ['degrade', 'throttle', 'block']);

/**
 * Returns the minutes per step. If a series has only one step, the step is as long as the period.
 */
export function stepMinutes({ at, minutes }: Series): number {
  const [first, second] = at;
  return first !== undefined && second !== undefined ? (second - first) / 60 : minutes;
}

/**
 * Minimum length of the last step in minutes when its rate is computed. In a shorter step, too few
 * requests arrive for a meaningful rate.
 */
const MIN_LAST_STEP_MINUTES = 0.5;

/**
 * Converts counts to counts per minute. The last step is incomplete, so its elapsed time is used.
 */
export function rates(series: Series, counts: readonly number[]): number[] {
  const full = stepMinutes(series);
  const elapsed = (serverNow() - (series.at.at(-1) ?? 0)) / 60;
  const last = Math.min(full, Math.max(MIN_LAST_STEP_MINUTES, elapsed));
  return counts.map((count, step) => count / (step === series.at.length - 1 ? last : full));
}

/**
 * Returns the sums of the first and of the second half. Leaves out the last step, which is
 * incomplete. If the number of remaining steps is odd, also leaves out the middle step.
 */
export function splitHalves(values: readonly number[]): [number, number] {
  const complete = values.slice(0, -1);
  const half = Math.floor(complete.length / 2);
  return [sum(complete.slice(0, half)), sum(complete.slice(complete.length - half))];
}

const formatTime = (at: number) =>
  new Date(at * 1000).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
const formatDay = (at: number) =>
  new Date(at * 1000).toLocaleDateString(undefined, { day: 'numeric', month: 'short' });

/** Formats the start of a step: the time, and for long ranges also the day. */
export const formatStep = (at: number, minutes: number) =>
  minutes < DAY_MINUTES ? formatTime(at) : `${formatDay(at)}, ${formatTime(at)}`;

/** Formats the times of an axis. At a new day, the day is in a second line. */
export function tickLabels(times: readonly number[], minutes: number): string[] {
  return times.map((at, tick) => {
    const previous = times[tick - 1];
    const isNewDay =
      previous === undefined ? minutes >= DAY_MINUTES : formatDay(previous) !== formatDay(at);
    return isNewDay ? `${formatTime(at)}\n${formatDay(at)}` : formatTime(at);
  });
}

const DAY_MINUTES = 1440;

/** Time ranges in minutes, with their labels after “Last”. */
export const RANGES: readonly [number, string][] = [
  [15, '15 minutes'],
  [60, 'hour'],
  [360, '6 hours'],
  [1440, '24 hours'],
  [10_080, '7 days'],
  [43_200, '30 days'],
];
