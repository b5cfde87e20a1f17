// Where signatures found what they look for, as parts of the body's text. The core counts bytes, the page UTF-16 units.

export interface Span {
  name: string;
  start: number;
  end: number;
}

/** A part of the text that is shown; `names` are the signatures that found it. `from` and `to` are places in the text. */
export interface Part {
  from: number;
  to: number;
  names: string[];
}

/** Parts that follow on each other. Between windows there is text that is not shown. */
export interface Window {
  from: number;
  to: number;
  parts: Part[];
}

const WHOLE = 6_000;
const AROUND = 240;
const LONG = 1_200;
/** What is not worth leaving out. */
const LEAST = 200;
const WINDOWS = 40;

/** Spans in bytes as spans in UTF-16 units; what lies outside of the text is left out. */
export function inText(text: string, spans: readonly Span[]): Span[] {
  const wanted = [...new Set(spans.flatMap(({ start, end }) => [start, end]))].sort((one, two) => one - two);
  const places = new Map<number, number>();
  let bytes = 0;
  let at = 0;
  for (const offset of wanted) {
    while (bytes < offset && at < text.length) {
      const code = text.codePointAt(at)!;
      bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
      at += code < 0x10000 ? 1 : 2;
    }
    if (bytes >= offset) places.set(offset, at);
  }
  return spans.flatMap(({ name, start, end }) => {
    const [from, to] = [places.get(start), places.get(end)];
    return from === undefined || to === undefined || from >= to ? [] : [{ name, start: from, end: to }];
  });
}

/** What is shown of a text: all of it where it is short, else the surroundings of its spans. */
export function windows(text: string, spans: readonly Span[]): Window[] {
  return shown(text, spans).map(({ from, to }) => ({ from, to, parts: parts(from, to, spans) }));
}

function shown(text: string, spans: readonly Span[]): { from: number; to: number }[] {
  if (text.length <= WHOLE) return [{ from: 0, to: text.length }];
  if (!spans.length) return [{ from: 0, to: WHOLE }];
  const around = spans.flatMap(({ start, end }) =>
    end - start <= LONG ? [[start, end] as const] : [[start, start + LONG / 2] as const, [end - LONG / 2, end] as const],
  );
  around.sort(([one], [two]) => one - two);
  const merged: { from: number; to: number }[] = [];
  for (const [start, end] of around) {
    const from = start < AROUND + LEAST ? 0 : boundary(text, start - AROUND);
    const to = end > text.length - AROUND - LEAST ? text.length : boundary(text, end + AROUND);
    const last = merged.at(-1);
    if (last && from <= last.to + LEAST) last.to = Math.max(last.to, to);
    else merged.push({ from, to });
  }
  return merged.slice(0, WINDOWS);
}

/** Not within a surrogate pair. */
const boundary = (text: string, at: number) => (at > 0 && at < text.length && /[\ud800-\udbff]/.test(text[at - 1]!) ? at - 1 : at);

/** Cuts a window wherever a span begins or ends. */
function parts(from: number, to: number, spans: readonly Span[]): Part[] {
  const own = spans.filter(({ start, end }) => start < to && end > from);
  const edges = new Set([from, to]);
  for (const { start, end } of own) for (const edge of [start, end]) if (edge > from && edge < to) edges.add(edge);
  const cuts = [...edges].sort((one, two) => one - two);
  return cuts.slice(0, -1).map((cut, at) => {
    const next = cuts[at + 1]!;
    const names = own.filter(({ start, end }) => start <= cut && end >= next).map(({ name }) => name);
    return { from: cut, to: next, names: [...new Set(names)] };
  });
}
