// Formats numbers with their units, and times.
import type { Evidence } from './api.ts';

const integer = new Intl.NumberFormat('en');
const abbreviated = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** Formats an integer: 12,345. */
export const count = (value: number) => integer.format(value);

/** Formats a number for narrow places: 12.3K. */
export const compact = (value: number) =>
  Math.abs(value) < 10_000 ? integer.format(Math.round(value)) : abbreviated.format(value);

/**
 * Formats a share of a total, such as 12.3 %. Returns a dash if the total is 0. Shares just below
 * 100 % are not rounded up to 100 %.
 */
export function share(part: number, total: number): string {
  if (!total) return '–';
  const percent = (100 * part) / total;
  if (part && percent < 0.1) return '< 0.1 %';
  if (percent < 100 && percent > 99.9) return '> 99.9 %';
  const isInteger = (percent >= 10 && percent < 99.5) || percent === 0 || percent >= 100;
  return `${percent.toFixed(isInteger ? 0 : 1)} %`;
}

/** Formats decibans: +9 dB, −20 dB. */
export function decibans(value: number, signed = true): string {
  const digits = Math.abs(value).toFixed(Number.isInteger(value) ? 0 : 1);
  return `${value < 0 ? '−' : signed && value > 0 ? '+' : ''}${digits} dB`;
}

/** Formats a score from 0 to 100: 97.3. */
export const score = (value: number) =>
  (value >= 10 ? value.toFixed(1) : value.toFixed(2)).replace(/\.0+$/, '');

/** Formats a number of bytes: 1.2 KiB. */
export function bytes(value: number): string {
  if (value < 1024) return `${integer.format(value)} B`;
  const units = ['KiB', 'MiB', 'GiB'];
  let size = value / 1024;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** Formats a duration in seconds: 2 min. */
export function duration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, 'd'],
    [3600, 'h'],
    [60, 'min'],
  ];
  for (const [size, unit] of units) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

/** Formats a time relative to `now`, both in seconds since the epoch: 3 min ago, in 2 d. */
export function ago(at: number, now = Date.now() / 1000): string {
  const seconds = now - at;
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

/** Returns the first eight digits of a digest or hash. */
export const brief = (hash: string) => (hash === 'embedded' ? hash : hash.slice(0, 8));

/**
 * Formats a byte range from its first to its last byte, such as “bytes 5 to 9”. The core's ranges
 * count from 0 and exclude the end.
 */
export const byteRange = ({ start, end }: Evidence) =>
  end - start === 1 ? `byte ${count(start)}` : `bytes ${count(start)} to ${count(end - 1)}`;
