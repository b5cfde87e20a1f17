import type { Exemplar } from '../core/core.ts';

/** In words: what an exemplar should do, and what it does. */
export function verdict({ expected, matches }: Exemplar): string {
  if (expected === matches) return matches ? 'matches, as expected' : 'does not match, as expected';
  return matches ? 'matches, but should not' : 'does not match, but should';
}
