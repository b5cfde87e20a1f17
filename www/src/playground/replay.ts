// Replays recorded traffic: streams the lines of a file through a separate core.
import { type Action, ACTIONS, type Band, BANDS } from '../api.ts';
import { Core, type Scored } from '../core/core.ts';
import type { Verdict } from '../policy/effect.ts';
import { type RecordedDecision, toDecision } from './recorded-decision.ts';

export interface Progress {
  /** Number of bytes of the file that are scored so far. */
  bytes: number;
  total: number;
  requests: number;
  seconds: number;
}

export interface Summary {
  /** Number of lines that are not empty. */
  requests: number;
  seconds: number;
  outcomes: Record<Band, Record<Action, number>>;
  /** Counts by the lines' member `label`, largest first; empty if no line has a label. */
  labels: LabelCounts[];
  /** Signatures with the most hits first. */
  signatures: { name: string; hits: number }[];
  /** Number of requests that are not LLM calls. */
  other: number;
  unreadable: number;
  /** Number of decisions of the console, which count as they were made: they have no request. */
  recorded: number;
  /** The first problems. */
  problems: { line: number; problem: string }[];
}

interface LabelCounts {
  label: string;
  bands: Record<Band, number>;
  other: number;
}

/** Returns the number of requests in a band. */
export const inBand = ({ outcomes }: Summary, band: Band) =>
  ACTIONS.reduce((sum, action) => sum + outcomes[band][action], 0);

interface Line {
  number: number;
  text: string;
  problem?: string;
}

const MAX_LINE_BYTES = 4 << 20;
const BATCH = { lines: 256, size: 1 << 20 };
const MAX_PROBLEMS = 20;
const MAX_LABELS = 50;
/** Milliseconds between progress reports. */
const PROGRESS_INTERVAL = 100;

const zeroBands = () => Object.fromEntries(BANDS.map((band) => [band, 0])) as Record<Band, number>;
const zeroActions = () =>
  Object.fromEntries(ACTIONS.map((action) => [action, 0])) as Record<Action, number>;

/** Called with the verdict on each LLM call, and the number of its line. */
type OnVerdict = (line: number, verdict: Verdict) => void;

/**
 * Scores every line of a file. Rejects if it is cancelled, or if the file or bundle is unreadable.
 */
export async function replay(
  file: File,
  bundle: string,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
  onVerdict?: OnVerdict,
): Promise<Summary> {
  signal.throwIfAborted();
  const core = new Core();
  const end = () => core.end();
  signal.addEventListener('abort', end, { once: true });
  const start = performance.now();
  const tally = new Tally(onVerdict);
  let lastReport = start;
  try {
    for await (const { lines, bytes } of batchesOf(file.stream())) {
      const read = lines.map((line) => ({ line, decision: toDecision(line.text) }));
      const requests = read.filter(({ line, decision }) => !line.problem && !decision);
      const texts = requests.map(({ line }) => line.text);
      const scored = (await core.scoreAll(bundle, texts)).values();
      for (const { line, decision } of read) {
        if (decision) tally.addRecorded(decision);
        else tally.add(line, line.problem ? { error: line.problem } : scored.next().value!);
      }
      signal.throwIfAborted();
      const now = performance.now();
      if (now - lastReport < PROGRESS_INTERVAL) continue;
      lastReport = now;
      const seconds = (now - start) / 1000;
      onProgress({ bytes, total: file.size, requests: tally.requests, seconds });
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
  return tally.summary((performance.now() - start) / 1000);
}

class Tally {
  requests = 0;
  #outcomes = Object.fromEntries(BANDS.map((band) => [band, zeroActions()])) as Summary['outcomes'];
  #labels = new Map<string, LabelCounts>();
  #signatures = new Map<string, number>();
  #problems: Summary['problems'] = [];
  #other = 0;
  #unreadable = 0;
  #recorded = 0;
  #onVerdict: OnVerdict | undefined;

  constructor(onVerdict?: OnVerdict) {
    this.#onVerdict = onVerdict;
  }

  add(line: Line, scored: Scored | { error: string }) {
    this.requests += 1;
    if ('error' in scored) return this.#addProblem(line, scored.error);
    const label = this.#labelOf(line.text);
    const { decision } = scored;
    if (!decision) {
      this.#other += 1;
      if (label) label.other += 1;
      return;
    }
    const { score, band, action } = decision;
    this.#onVerdict?.(line.number, { score, band, action });
    if (label) label.bands[band] += 1;
    this.#count(decision);
  }

  /** Counts a decision of the console as it was made. */
  addRecorded(decision: RecordedDecision) {
    this.requests += 1;
    this.#recorded += 1;
    this.#count(decision);
  }

  #count({ band, action, hits }: RecordedDecision) {
    if (band) this.#outcomes[band][action] += 1;
    for (const { name } of hits) {
      this.#signatures.set(name, (this.#signatures.get(name) ?? 0) + 1);
    }
  }

  summary(seconds: number): Summary {
    const size = ({ bands, other }: LabelCounts) =>
      BANDS.reduce((sum, band) => sum + bands[band], other);
    const signatures = [...this.#signatures].map(([name, hits]) => ({ name, hits }));
    return {
      requests: this.requests,
      seconds,
      outcomes: this.#outcomes,
      labels: [...this.#labels.values()].sort((one, two) => size(two) - size(one)),
      signatures: signatures.sort((one, two) => two.hits - one.hits),
      other: this.#other,
      unreadable: this.#unreadable,
      recorded: this.#recorded,
      problems: this.#problems,
    };
  }

  #addProblem({ number }: Line, problem: string) {
    this.#unreadable += 1;
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push({ line: number, problem });
  }

  /** Returns the counts of the line's label; null if the line has no label. */
  #labelOf(text: string): LabelCounts | null {
    if (!text.includes('"label"')) return null;
    const { label } = JSON.parse(text) as { label?: unknown };
    if (typeof label !== 'string' || !label) return null;
    const isListed = this.#labels.has(label) || this.#labels.size < MAX_LABELS;
    const name = isListed ? label : 'all others';
    let counts = this.#labels.get(name);
    if (!counts) {
      counts = { label: name, bands: zeroBands(), other: 0 };
      this.#labels.set(name, counts);
    }
    return counts;
  }
}

/**
 * Yields lines in batches, so that fewer messages are sent to the core. `bytes` is the end of the
 * last line in the file.
 */
async function* batchesOf(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<{ lines: Line[]; bytes: number }> {
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

/** Yields the lines of a stream that are not empty. Does not buffer lines that are too long. */
async function* linesOf(
  stream: ReadableStream<Uint8Array>,
  onRead: (bytes: number) => void,
): AsyncGenerator<Line> {
  const reader = stream.getReader();
  let parts: Uint8Array[] = [];
  let length = 0;
  let number = 1;
  let bytes = 0;
  const append = (part: Uint8Array) => {
    length += part.length;
    if (length <= MAX_LINE_BYTES) parts.push(part);
    else parts = [];
  };
  const finish = () => {
    const line = toLine(number, parts, length);
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
        append(chunk.subarray(from, at));
        const line = finish();
        onRead(bytes + at + 1);
        from = at + 1;
        if (line) yield line;
      }
      append(chunk.subarray(from));
      bytes += chunk.length;
      onRead(bytes);
    }
    const line = finish();
    if (line) yield line;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** Decodes a line. Returns null if the line is empty. */
function toLine(number: number, parts: Uint8Array[], length: number): Line | null {
  if (length > MAX_LINE_BYTES) return { number, text: '', problem: 'longer than 4 MiB' };
  let text: string;
  try {
    text = decode(parts, length).trim();
  } catch {
    return { number, text: '', problem: 'not UTF-8' };
  }
  if (!text) return null;
  return text.startsWith('{')
    ? { number, text }
    : { number, text: '', problem: 'not a JSON object' };
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function decode(parts: Uint8Array[], length: number): string {
  if (parts.length === 1) return utf8.decode(parts[0]);
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return utf8.decode(bytes);
}
