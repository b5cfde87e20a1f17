// The labelled values and times of the chart's axes.
import { formatTime, timeOfDay, zoneOffset } from '../time.ts';

/** Returns at most six whole and round values from 0 to `max`. */
export function valueTicks(max: number): number[] {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(max / 5)));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((size) => max / size <= 5)!;
  return Array.from({ length: Math.floor(max / size) + 1 }, (_, index) => index * size);
}

/** Distances of times in minutes. */
const DISTANCES = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14_400];

/**
 * Returns round times of the shown zone from `start` to `end`, in seconds since the epoch: about
 * `count` or fewer.
 */
export function timeTicks(start: number, end: number, count: number): number[] {
  const fits = (minutes: number) => (end - start) / (60 * minutes) <= count;
  const distance = 60 * (DISTANCES.find(fits) ?? DISTANCES.at(-1)!);
  const toLocal = (at: number) => at + 60 * zoneOffset(1000 * at);
  // The offset of a zone changes by half hours. Local times are looked up one by one, because a
  // change of the clock within the range moves the later ones.
  const step = Math.min(distance, 1800);
  const first = start + Math.ceil(toLocal(start) / step) * step - toLocal(start);
  const length = Math.max(0, Math.floor((end - first) / step) + 1);
  const times = Array.from({ length }, (_, index) => first + index * step);
  return times.filter((at) => toLocal(at) % distance === 0);
}

/** Returns the lines of a label: the time of day, and the day if the previous label has another. */
export function tickLabel(at: number, previous: number | undefined): string[] {
  const day = (at: number) => formatTime(1000 * at, 'day');
  const isNewDay = previous === undefined || day(previous) !== day(at);
  return [timeOfDay(1000 * at), ...(isNewDay ? [day(at)] : [])];
}
