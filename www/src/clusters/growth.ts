import { count, duration } from '../format.ts';
import type { Cluster } from './types.ts';

/** How fast it came together, where it took long enough to say so: 40 min: 36 an hour. */
export function growth({ accounts, first, last }: Cluster): string {
  const seconds = last - first;
  const [size, unit] = seconds >= 1200 ? [3600, 'an hour'] : [60, 'a minute'];
  if (seconds < 120) return duration(seconds);
  const rate = accounts / (seconds / size);
  return `${duration(seconds)}: ${rate < 0.1 ? 'less than 0.1' : rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} ${unit}`;
}
