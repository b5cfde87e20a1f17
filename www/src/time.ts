// The one format of times: `2026-11-30 14:03:09 UTC+1`, in the browser's time zone or in UTC.
import { useEffect, useState } from 'preact/hooks';
import { tryStorage } from './session.ts';

const KEY = 'hedgerow.utc';
const CHANGED = 'hedgerow:clock';
/** Used if the browser blocks storage. */
let isUtc = tryStorage(() => localStorage.getItem(KEY)) !== null;

/** Shows all times in UTC, or in the browser's time zone. The browser remembers the choice. */
export function setUtc(utc: boolean) {
  isUtc = utc;
  tryStorage(() => (utc ? localStorage.setItem(KEY, '1') : localStorage.removeItem(KEY)));
  dispatchEvent(new Event(CHANGED));
}

/** Returns whether times are in UTC, and renders again when that changes. */
export function useUtc(): boolean {
  const [utc, set] = useState(isUtc);
  useEffect(() => {
    const update = () => set(isUtc);
    addEventListener(CHANGED, update);
    return () => removeEventListener(CHANGED, update);
  }, []);
  return utc;
}

/** Minutes that the clock is ahead of UTC at a time, in milliseconds since the epoch. */
export const zoneOffset = (at: number, utc = isUtc) =>
  utc ? 0 : -new Date(at).getTimezoneOffset();

/** Returns the time without its zone: `2026-11-30T14:03:09.123`; empty if it is invalid. */
function toIso(at: number, utc: boolean): string {
  const shifted = new Date(at + 60_000 * zoneOffset(at, utc));
  return Number.isNaN(shifted.getTime()) ? '' : shifted.toISOString().slice(0, -1);
}

/** Returns the zone of a time, in milliseconds since the epoch: `UTC`, `UTC+1`, `UTC−3:30`. */
export function zone(at = Date.now(), utc = isUtc): string {
  const minutes = zoneOffset(at, utc);
  if (!minutes) return 'UTC';
  const size = Math.abs(minutes);
  const rest = size % 60 ? `:${String(size % 60).padStart(2, '0')}` : '';
  return `UTC${minutes < 0 ? '−' : '+'}${Math.floor(size / 60)}${rest}`;
}

/**
 * Returns the zones of the first and the last time, in seconds since the epoch. They are
 * `UTC+2 and UTC+1` if the clock changed between them.
 */
export const zones = (times: readonly number[]) =>
  [...new Set([times.at(0), times.at(-1)].map((at) => zone(at && 1000 * at)))].join(' and ');

/** The last part of a time that is shown. */
export type Precision = 'day' | 'minute' | 'second' | 'millisecond';

const LENGTHS: Record<Precision, number> = { day: 10, minute: 16, second: 19, millisecond: 23 };

/**
 * Formats a time without its zone: `2026-11-30 14:03:09`. `at` is in milliseconds since the epoch.
 */
export const formatTime = (at: number, precision: Precision = 'second', utc = isUtc) =>
  toIso(at, utc).slice(0, LENGTHS[precision]).replace('T', ' ');

/** Formats a time with its zone: `2026-11-30 14:03:09 UTC+1`. */
export const formatZoned = (at: number, precision?: Precision, utc = isUtc) =>
  `${formatTime(at, precision, utc)} ${zone(at, utc)}`;

/** Formats the time of day: `14:03`. */
export const timeOfDay = (at: number, precision: Precision = 'minute') =>
  formatTime(at, precision).slice(11);

/** Returns a time as the value of a `datetime-local` input; empty for null. */
export const toInput = (at: number | null) =>
  at === null || at < 0 || at > 2e14 ? '' : toIso(at, isUtc).slice(0, 16);

/** Parses the value of a `datetime-local` input; NaN if it is not a time. */
export const fromInput = (value: string) => Date.parse(isUtc ? `${value}Z` : value);
