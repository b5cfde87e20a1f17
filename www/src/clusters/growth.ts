import type { ClusterInfo } from '../api.ts';
import { count, duration } from '../format.ts';

/**
 * Formats how fast a cluster grew, such as “40 min: 36 per hour”. If the time is short, formats
 * only the time.
 */
export function growth({ accounts, first, last }: ClusterInfo): string {
  const seconds = last - first;
  if (seconds < 120) return duration(seconds);
  const [size, unit] = seconds >= 1200 ? [3600, 'per hour'] : [60, 'per minute'];
  return `${duration(seconds)}: ${formatRate(accounts / (seconds / size))} ${unit}`;
}

function formatRate(rate: number): string {
  if (rate < 0.1) return 'less than 0.1';
  return rate < 10 ? rate.toFixed(1) : count(Math.round(rate));
}
