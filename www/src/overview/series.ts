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
 * Minimum length of the last step in minutes when its rate is computed. In a shorter step, too few
 * requests arrive for a meaningful rate.
 */
const MIN_LAST_STEP_MINUTES = 0.5;

/**
 * Converts counts to counts per minute. The last step is incomplete, so its elapsed time is used.
 */
export function rates(series: Series, counts: readonly number[]): number[] {
  const full = series.step / 60;
  const elapsed = (serverNow() - (series.at.at(-1) ?? 0)) / 60;
  const last = Math.min(full, Math.max(MIN_LAST_STEP_MINUTES, elapsed));
  return counts.map((count, step) => count / (step === series.at.length - 1 ? last : full));
}

/** Returns whether the last step is still being counted. */
export const isOpen = ({ at, step }: Series) => (at.at(-1) ?? 0) + step > serverNow();
