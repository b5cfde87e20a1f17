// Replaying recorded traffic: a file of lines through a core of its own, read as a stream.
import { type Action, ACTIONS, type Band, BANDS } from '../api.ts';
import { Core, type Scored } from '../core/core.ts';

export interface Progress {
  /** Bytes that were scored, of all. */
  bytes: number;
  total: number;
  requests: number;
  seconds: number;
}

export interface Summary {
  /** Lines that are not empty. */
  requests: number;
  seconds: number;
  outcomes: Record<Band, Record<Action, number>>;
  /** By what lines say that they are, most first; empty where none does. */
  labels: { label: string; bands: Record<Band, number>; other: number }[];
  /** Most first. */
  signatures: { name: string; hits: number }[];
  /** No LLM calls, which pass unscored. */
  other: number;
  unreadable: number;
  /** The first of them. */
  problems: { line: number; problem: string }[];
}

export const inBand = ({ outcomes }: Summary, band: Band) => ACTIONS.reduce((sum, action) => sum + outcomes[band][action], 0);

interface Line {
  number: number;
  text: string;
  problem?: string;
}

const LONGEST = 4 << 20;
const BATCH = { lines: 256, size: 1 << 20 };
const PROBLEMS = 20;
const LABELS = 50;

const noBands = () => Object.fromEntries(BANDS.map((band) => [band, 0])) as Record<Band, number>;
const noActions = () => Object.fromEntries(ACTIONS.map((action) => [action, 0])) as Record<Action, number>;

/** Scores every line of a file. Rejects where it is cancelled, or where the file or the bundle cannot be read. */
export async function replay(file: File, bundle: string, onProgress: (progress: Progress) => void, signal: AbortSignal): Promise<Summary> {
  signal.throwIfAborted();
  const core = new Core();
  const end = () => core.end();
  signal.addEventListener('abort', end, { once: true });
  const began = performance.now();
  const tally = new Tally();
  let told = began;
  try {
    for await (const { lines, bytes } of batchesOf(file.stream())) {
      const readable = lines.filter(({ problem }) => !problem);
      const scored = await core.scores(bundle, readable.map(({ text }) => text));
      const answers = scored.values();
      for (const line of lines) tally.add(line, line.problem ? { error: line.problem } : answers.next().value!);
      signal.throwIfAborted();
      if (performance.now() - told < 100) continue;
      told = performance.now();
      onProgress({ bytes, total: file.size, requests: tally.requests, seconds: (told - began) / 1000 });
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
  return tally.summary((performance.now() - began) / 1000);
}

class Tally {
  requests = 0;
  #outcomes = Object.fromEntries(BANDS.map((band) => [band, noActions()])) as Summary['outcomes'];
  #labels = new Map<string, { bands: Record<Band, number>; other: number }>();
  #signatures = new Map<string, number>();
  #problems: Summary['problems'] = [];
  #other = 0;
  #unreadable = 0;

  add(line: Line, scored: Scored | { error: string }) {
    this.requests += 1;
    if ('error' in scored) return this.#refuse(line, scored.error);
    const label = this.#label(line.text);
    const { decision } = scored;
    if (!decision) {
      this.#other += 1;
      if (label) label.other += 1;
      return;
    }
    this.#outcomes[decision.band][decision.action] += 1;
    if (label) label.bands[decision.band] += 1;
    for (const { name } of decision.hits) this.#signatures.set(name, (this.#signatures.get(name) ?? 0) + 1);
  }

  summary(seconds: number): Summary {
    const labels = [...this.#labels].map(([label, counts]) => ({ label, ...counts }));
    const size = ({ bands, other }: Summary['labels'][number]) => BANDS.reduce((sum, band) => sum + bands[band], other);
    const signatures = [...this.#signatures].map(([name, hits]) => ({ name, hits }));
    return {
      requests: this.requests,
      seconds,
      outcomes: this.#outcomes,
      labels: labels.sort((one, two) => size(two) - size(one)),
      signatures: signatures.sort((one, two) => two.hits - one.hits),
      other: this.#other,
      unreadable: this.#unreadable,
      problems: this.#problems,
    };
  }

  #refuse({ number }: Line, problem: string) {
    this.#unreadable += 1;
    if (this.#problems.length < PROBLEMS) this.#problems.push({ line: number, problem });
  }

  #label(text: string) {
    if (!text.includes('"label"')) return null;
    const { label } = JSON.parse(text) as { label?: unknown };
    if (typeof label !== 'string' || !label) return null;
    const name = this.#labels.has(label) || this.#labels.size < LABELS ? label : 'all others';
    if (!this.#labels.has(name)) this.#labels.set(name, { bands: noBands(), other: 0 });
    return this.#labels.get(name)!;
  }
}

/** Lines in batches that are worth the way to the core, with the bytes that were read up to their end. */
async function* batchesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<{ lines: Line[]; bytes: number }> {
  let lines: Line[] = [];
  let size = 0;
  let bytes = 0;
  for await (const line of linesOf(stream, (read) => (bytes = read))) {
    lines.push(line);
    size += line.text.length;
    if (lines.length < BATCH.lines && size < BATCH.size) continue;
    yield { lines, bytes };
    lines = [];
    size = 0;
  }
  if (lines.length) yield { lines, bytes };
}

/** The lines of a stream that are not empty. A line that is too long is passed over without being kept. */
async function* linesOf(stream: ReadableStream<Uint8Array>, onRead: (bytes: number) => void): AsyncGenerator<Line> {
  const reader = stream.getReader();
  let parts: Uint8Array[] = [];
  let length = 0;
  let number = 1;
  let bytes = 0;
  const take = (part: Uint8Array) => {
    length += part.length;
    if (length <= LONGEST) parts.push(part);
    else parts = [];
  };
  const finish = () => {
    const line = lineOf(number, parts, length);
    parts = [];
    length = 0;
    number += 1;
    return line;
  };
  try {
    for (;;) {
      const { value: chunk, done } = await reader.read();
      if (done) break;
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        take(chunk.subarray(from, at));
        const line = finish();
        onRead(bytes + at + 1);
        from = at + 1;
        if (line) yield line;
      }
      take(chunk.subarray(from));
      bytes += chunk.length;
      onRead(bytes);
    }
    const line = finish();
    if (line) yield line;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function lineOf(number: number, parts: Uint8Array[], length: number): Line | null {
  if (length > LONGEST) return { number, text: '', problem: 'longer than 4 MiB' };
  let text: string;
  try {
    text = decode(parts, length).trim();
  } catch {
    return { number, text: '', problem: 'not UTF-8' };
  }
  if (!text) return null;
  return text.startsWith('{') ? { number, text } : { number, text: '', problem: 'not a JSON object' };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function decode(parts: Uint8Array[], length: number): string {
  if (parts.length === 1) return utf8.decode(parts[0]);
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return utf8.decode(whole);
}
