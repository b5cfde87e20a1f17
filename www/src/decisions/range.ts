import type { Evidence } from '../api.ts';
import { count } from '../format.ts';

/** Where evidence lies, its last byte included. The core counts bytes from 0, and its ends are exclusive. */
export const byteRange = ({ start, end }: Evidence) => (end - start === 1 ? `byte ${count(start)}` : `bytes ${count(start)} to ${count(end - 1)}`);
