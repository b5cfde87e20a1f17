// Sums over time, and how they change.
import { type Action, type Band, type Series, serverNow } from '../api.ts';

export const sum = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

/** Sums, step by step, of some of the rows. */
export function added<Name extends string>(rows: Record<Name, number[]>, names: readonly Name[]): number[] {
  const all = names.map((name) => rows[name] ?? []);
  const steps = Math.max(0, ...all.map((row) => row.length));
  return Array.from({ length: steps }, (_, step) => sum(all.map((row) => row[step] ?? 0)));
}

export const requests = (series: Series) => added<Action>(series.actions, ['allow', 'tag', 'degrade', 'throttle', 'block']);
export const suspect = (series: Series) => added<Band>(series.bands, ['suspect', 'hostile']);
export const curbed = (series: Series) => added<Action>(series.actions, ['degrade', 'throttle', 'block']);

/** Minutes of one step. */
export function stepMinutes({ at, minutes }: Series): number {
  const [first, second] = at;
  return first !== undefined && second !== undefined ? (second - first) / 60 : minutes;
}

/** Counts as counts a minute. The last step is not over yet; in its first seconds it says little. */
export function rates(series: Series, counts: readonly number[]): number[] {
  const whole = stepMinutes(series);
  const running = Math.min(whole, Math.max(0.5, (serverNow() - (series.at.at(-1) ?? 0)) / 60));
  return counts.map((count, step) => count / (step === series.at.length - 1 ? running : whole));
}

/** The sums of the first and of the second half; neither has what is in the middle, nor the step that is not over yet. */
export function halves(values: readonly number[]): [number, number] {
  const over = values.slice(0, -1);
  const half = Math.floor(over.length / 2);
  return [sum(over.slice(0, half)), sum(over.slice(over.length - half))];
}

const time = (at: number) => new Date(at * 1000).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
const day = (at: number) => new Date(at * 1000).toLocaleDateString(undefined, { day: 'numeric', month: 'short' });

/** When a step begins, as short as the range allows. */
export const clock = (at: number, minutes: number) => (minutes < DAY ? time(at) : `${day(at)}, ${time(at)}`);

/** Times along an axis, with the day in a second line where another one begins. */
export function ticks(all: readonly number[], minutes: number): string[] {
  return all.map((at, tick) => {
    const before = all[tick - 1];
    const turns = before === undefined ? minutes >= DAY : day(before) !== day(at);
    return turns ? `${time(at)}\n${day(at)}` : time(at);
  });
}

const DAY = 1440;

export const RANGES: readonly [number, string][] = [
  [15, '15 minutes'],
  [60, 'hour'],
  [360, '6 hours'],
  [1440, '24 hours'],
  [10_080, '7 days'],
  [43_200, '30 days'],
];
