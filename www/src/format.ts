// Numbers with their units and times as people read them.

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** 12,345 */
export const count = (value: number) => whole.format(value);

/** 12.3K: where there is little room. */
export const compact = (value: number) => (Math.abs(value) < 10_000 ? whole.format(Math.round(value)) : short.format(value));

/** 12.3 % of a whole; a dash where there is no whole. Only all of it is 100 %. */
export function share(part: number, total: number): string {
  if (!total) return '–';
  const percent = (100 * part) / total;
  if (part && percent < 0.1) return '< 0.1 %';
  if (percent < 100 && percent > 99.9) return '> 99.9 %';
  return `${percent.toFixed((percent >= 10 && percent < 99.5) || percent === 0 || percent >= 100 ? 0 : 1)} %`;
}

/** +9 dB, −20 dB */
export function decibans(value: number, signed = true): string {
  const digits = Math.abs(value).toFixed(Number.isInteger(value) ? 0 : 1);
  return `${value < 0 ? '−' : signed && value > 0 ? '+' : ''}${digits} dB`;
}

/** 97.3: a score from 0 to 100. */
export const score = (value: number) => (value >= 10 ? value.toFixed(1) : value.toFixed(2)).replace(/\.0+$/, '');

/** 1.2 KiB */
export function bytes(value: number): string {
  if (value < 1024) return `${whole.format(value)} B`;
  const units = ['KiB', 'MiB', 'GiB'];
  let size = value / 1024;
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** 2 min: how long something takes or lasts, in seconds. */
export function duration(seconds: number): string {
  const rows: [number, string][] = [[86_400, 'd'], [3600, 'h'], [60, 'min']];
  for (const [size, unit] of rows) if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

/** 3 min ago, in 2 d: a time in seconds since the epoch against now. */
export function ago(at: number, now = Date.now() / 1000): string {
  const seconds = now - at;
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

/** The first digits of a digest or hash: enough for people. */
export const brief = (hash: string) => (hash === 'embedded' ? hash : hash.slice(0, 8));
