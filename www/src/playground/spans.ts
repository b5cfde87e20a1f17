// Divides the body's text into parts, by evidence and by passage. Converts offsets: the core counts
// bytes, and JavaScript counts UTF-16 code units.

export interface Range {
  start: number;
  end: number;
}

export interface Span extends Range {
  name: string;
}

/** A part of the text between two offsets, and the signatures whose evidence it is. */
export interface Part {
  from: number;
  to: number;
  names: string[];
}

/** Consecutive parts of the text that are shown. Text between two windows is left out. */
export interface Window {
  from: number;
  to: number;
  parts: Part[];
}

// These lengths are in UTF-16 code units.
/** Maximum length of a text that is shown completely. */
const MAX_WHOLE = 6_000;
/** Length of the context before and after a span. */
const CONTEXT = 240;
/** Maximum length of a span that is shown completely, instead of only its start and end. */
const MAX_SPAN = 1_200;
/** Minimum length of a gap that is left out. */
const MIN_GAP = 200;
const MAX_WINDOWS = 40;

/** Converts byte offsets to UTF-16 offsets. Leaves out spans outside of the text. */
export function toTextSpans<T extends Range>(text: string, spans: readonly T[]): T[] {
  const offsets = [...new Set(spans.flatMap(({ start, end }) => [start, end]))];
  const indices = new Map<number, number>();
  let bytes = 0;
  let index = 0;
  for (const offset of offsets.sort((one, two) => one - two)) {
    while (bytes < offset && index < text.length) {
      const code = text.codePointAt(index)!;
      bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      index += code < 0x10000 ? 1 : 2;
    }
    if (bytes >= offset) indices.set(offset, index);
  }
  return spans.flatMap((span) => {
    const from = indices.get(span.start);
    const to = indices.get(span.end);
    const isEmpty = from === undefined || to === undefined || from >= to;
    return isEmpty ? [] : [{ ...span, start: from, end: to }];
  });
}

/**
 * Returns the shown parts of a text: all of it if it is short, otherwise the spans with context.
 */
export function windows(text: string, spans: readonly Span[]): Window[] {
  return shownRanges(text, spans).map(({ from, to }) => ({
    from,
    to,
    parts: splitParts(from, to, spans),
  }));
}

function shownRanges(text: string, spans: readonly Span[]): { from: number; to: number }[] {
  if (text.length <= MAX_WHOLE) return [{ from: 0, to: text.length }];
  if (!spans.length) return [{ from: 0, to: MAX_WHOLE }];
  const ranges = spans.flatMap(({ start, end }): [number, number][] =>
    end - start <= MAX_SPAN
      ? [[start, end]]
      : [
          [start, start + MAX_SPAN / 2],
          [end - MAX_SPAN / 2, end],
        ],
  );
  ranges.sort(([one], [two]) => one - two);
  const merged: { from: number; to: number }[] = [];
  for (const [start, end] of ranges) {
    const isNearStart = start < CONTEXT + MIN_GAP;
    const isNearEnd = end > text.length - CONTEXT - MIN_GAP;
    const from = isNearStart ? 0 : characterBoundary(text, start - CONTEXT);
    const to = isNearEnd ? text.length : characterBoundary(text, end + CONTEXT);
    const last = merged.at(-1);
    if (last && from <= last.to + MIN_GAP) last.to = Math.max(last.to, to);
    else merged.push({ from, to });
  }
  return merged.slice(0, MAX_WINDOWS);
}

/** Consecutive parts in one passage, or in none. */
export interface Stretch<T extends Range> {
  passage: T | null;
  parts: Part[];
}

/**
 * Cuts parts at the edges of passages, and groups parts by passage. Where passages overlap, the
 * passage that begins first counts.
 */
export function splitStretches<T extends Range>(
  parts: readonly Part[],
  passages: readonly T[],
): Stretch<T>[] {
  const sorted = [...passages].sort((one, two) => one.start - two.start);
  const stretches: Stretch<T>[] = [];
  let next = 0;
  for (const { from, to, names } of parts) {
    let start = from;
    while (start < to) {
      while (next < sorted.length && sorted[next]!.end <= start) next += 1;
      const following = sorted[next];
      const passage = following && following.start <= start ? following : null;
      const edge = passage?.end ?? following?.start ?? to;
      const end = Math.min(edge, to);
      const last = stretches.at(-1);
      const part = { from: start, to: end, names };
      if (last && last.passage === passage) last.parts.push(part);
      else stretches.push({ passage, parts: [part] });
      start = end;
    }
  }
  return stretches;
}

/** Moves an index out of a surrogate pair. */
function characterBoundary(text: string, index: number): number {
  const isInside = index > 0 && index < text.length && /[\ud800-\udbff]/.test(text[index - 1]!);
  return isInside ? index - 1 : index;
}

/** Splits a range at the start and the end of each span. */
function splitParts(from: number, to: number, spans: readonly Span[]): Part[] {
  const inside = spans.filter(({ start, end }) => start < to && end > from);
  const edges = new Set([from, to]);
  for (const { start, end } of inside) {
    for (const edge of [start, end]) if (edge > from && edge < to) edges.add(edge);
  }
  const cuts = [...edges].sort((one, two) => one - two);
  return cuts.slice(0, -1).map((cut, index) => {
    const next = cuts[index + 1]!;
    const covering = inside.filter(({ start, end }) => start <= cut && end >= next);
    return { from: cut, to: next, names: [...new Set(covering.map(({ name }) => name))] };
  });
}
