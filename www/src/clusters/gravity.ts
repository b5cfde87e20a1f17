import type { ClusterInfo } from '../api.ts';
import { count } from '../format.ts';

/** Points that a cluster loses for each day since its last firing. */
const POINTS_PER_DAY = 3;

/**
 * Returns how urgent a cluster is, in points: 3 for each doubling of its accounts, and 3 for each
 * doubling of its suspect and hostile requests of the last 24 hours, of which the hostile ones
 * count twice. It loses 3 for each day since the last firing. `now` is in seconds since the epoch.
 * docs/console.md explains the points.
 */
export function gravity({ accounts, traffic, last }: ClusterInfo, now = Date.now() / 1000): number {
  const { suspect = 0, hostile = 0 } = traffic?.by_band ?? {};
  const size = 10 * Math.log10(Math.max(1, accounts) * (1 + suspect + 2 * hostile));
  const days = Math.max(0, now - last) / 86_400;
  return Math.max(0, size - POINTS_PER_DAY * days);
}

/** The API counts at most this number of links of a cluster. */
const MAX_LINKS = 64;

/** Formats the number of links, with a plus sign if there may be more. */
export const linkCount = ({ keys }: Pick<ClusterInfo, 'keys'>) =>
  `${count(keys)}${keys >= MAX_LINKS ? '+' : ''}`;
