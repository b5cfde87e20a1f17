// What was pasted, as a request: raw HTTP, a curl command, a HAR, a line of recorded traffic or a bare JSON body.
import { readCurl } from './curl.ts';
import { entriesOf, type HarEntry, readEntry } from './har.ts';
import { InputError, isObject } from './problem.ts';

export type Form = 'http' | 'curl' | 'har' | 'line' | 'body';
export const FORMS: Record<Form, string> = { http: 'raw HTTP request', curl: 'curl command', har: 'HAR', line: 'line of recorded traffic', body: 'JSON body' };

export type Shape = 'chat' | 'responses' | 'completions' | 'messages' | 'gemini';
export const SHAPES: Record<Shape, { title: string; path: string }> = {
  chat: { title: 'OpenAI chat completions', path: '/v1/chat/completions' },
  responses: { title: 'OpenAI responses', path: '/v1/responses' },
  completions: { title: 'OpenAI completions', path: '/v1/completions' },
  messages: { title: 'Anthropic messages', path: '/v1/messages' },
  gemini: { title: 'Gemini generateContent', path: '/v1beta/models/MODEL:generateContent' },
};

/** What was chosen by hand; what is null is detected. */
export interface Choice {
  form: Form | null;
  shape: Shape | null;
  /** Which entry of a HAR. */
  entry: number | null;
}

export interface Reading {
  form: Form;
  /** The API that it is read for; null where its path says so. */
  shape: Shape | null;
  /** Entries of a HAR that are POST requests, by their place in it, and which of them this is. */
  entries: { at: number; label: string }[];
  entry: number | null;
  method: string;
  path: string;
  body: string;
  /** Bytes of the body. */
  size: number;
  /** What is worth knowing about how it was read. */
  notes: string[];
  /** As a line of recorded traffic, which the core reads. */
  line: string;
}

interface Request {
  method: string;
  target: string;
  headers: [string, string][];
  body: string;
  http_version?: string;
}

const MOST = 16 << 20;

/** Reads what was pasted. Throws an `InputError`, which says what to do. */
export function read(text: string, choice: Choice): Reading {
  if (text.length > MOST) throw new InputError('This is more than 16 MiB.', 'The filter scans 2 MiB of a body; paste a shorter one.');
  const json = parsed(text);
  const form = choice.form ?? detect(text, json);
  if (!form) throw new InputError('This is no request in a form that is known here.', 'Paste raw HTTP, a curl command, a HAR entry or a JSON body, or choose what it is.');
  const reading = { form, shape: null as Shape | null, entries: [] as Reading['entries'], entry: null as number | null, notes: [] as string[] };
  const done = (request: Request) => finish(reading, sentTo(reading, choice.shape, request));
  switch (form) {
    case 'http':
      return done(fromHttp(text));
    case 'curl': {
      const { url, ignored, ...rest } = readCurl(text);
      if (ignored.length) reading.notes.push(`Options that are not read: ${ignored.join(', ')}.`);
      return done({ ...rest, target: targetOf(url) });
    }
    case 'har': {
      const entries = entriesOf(json);
      const posts = entries.map((entry, at) => ({ at, entry })).filter(({ entry }) => entry.method.toUpperCase() === 'POST');
      const offered = posts.length ? posts : [{ at: 0, entry: entries[0]! }];
      const { at, entry } = offered.find(({ at }) => at === choice.entry) ?? offered[0]!;
      reading.entries = offered.map(({ at, entry }) => ({ at, label: labelOf(entry) }));
      reading.entry = at;
      if (!posts.length) reading.notes.push('No entry is a POST request.');
      return done({ ...readEntry(entry), target: targetOf(entry.url) });
    }
    case 'line':
      return done(fromLine(json));
    case 'body': {
      const shape = choice.shape ?? shapeOf(json);
      reading.shape = shape;
      if (json === undefined) reading.notes.push('This is no valid JSON; it is scored as it stands, as a broken body.');
      reading.notes.push('A body has no headers, so a neutral user agent is assumed. Headers say something, too: paste the whole request where you have it.');
      // Without any the filter would see a client that hides itself, which nobody said.
      return finish(reading, { method: 'POST', target: SHAPES[shape].path, headers: [['content-type', 'application/json'], ['user-agent', 'playground']], body: text });
    }
  }
}

function parsed(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function detect(text: string, json: unknown): Form | null {
  if (/^\s*[[{]/.test(text)) {
    if (!isObject(json)) return 'body';
    if ((isObject(json.log) && Array.isArray(json.log.entries)) || (isObject(json.request) && typeof json.request.url === 'string')) return 'har';
    return typeof json.path === 'string' && ('body' in json || 'headers' in json) ? 'line' : 'body';
  }
  if (/^\s*(\$\s+)?curl(\.exe)?\s/i.test(text)) return 'curl';
  return /^\s*[A-Za-z]{3,20} +(\/|https?:\/\/)\S*( +HTTP\/[\d.]+)?[ \t]*(\r?\n|$)/.test(text) ? 'http' : null;
}

/** The API that a body is meant for, by its members. */
export function shapeOf(json: unknown): Shape {
  if (!isObject(json)) return 'chat';
  if (Array.isArray(json.contents)) return 'gemini';
  if (Array.isArray(json.messages)) {
    const model = typeof json.model === 'string' ? json.model : '';
    const own = 'system' in json || 'anthropic_version' in json || 'thinking' in json || 'stop_sequences' in json;
    return own || /(^|[/.])claude/i.test(model) ? 'messages' : 'chat';
  }
  if ('input' in json) return 'responses';
  return 'prompt' in json ? 'completions' : 'chat';
}

function fromHttp(text: string): Request {
  const own = text.trimStart();
  const end = /\r?\n\r?\n/.exec(own);
  const head = own.slice(0, end?.index);
  const [first = '', ...lines] = head.split(/\r?\n/);
  const found = /^(\S+) +(\S+)(?: +HTTP\/([\d.]{1,5}))?\s*$/.exec(first);
  if (!found) throw new InputError('The first line is no request line.', 'Begin with a line such as POST /v1/messages HTTP/1.1.');
  const headers = lines.map((line, at): [string, string] => {
    const colon = line.indexOf(':');
    if (colon < 1) throw new InputError(`Line ${at + 2} is no header.`, 'Write headers as name: value, and leave an empty line before the body.');
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
  return { method: found[1]!, target: targetOf(found[2]!), headers, body: end ? own.slice(end.index + end[0].length) : '', http_version: found[3] };
}

function fromLine(json: unknown): Request {
  const fault = (what: string) => new InputError(what, 'A line is an object of method, path, headers and body.');
  if (!isObject(json)) throw fault('This is no line of recorded traffic.');
  const { method = 'POST', path, headers = {}, body = '', body_b64 } = json;
  if (typeof method !== 'string' || typeof path !== 'string') throw fault('The method or the path is no text.');
  if (body_b64 === true) throw new InputError('The body is in Base64.', 'Decode it, or replay the file, below.');
  const pairs: unknown[] = Array.isArray(headers) ? headers : isObject(headers) ? Object.entries(headers) : [null];
  const isPair = (pair: unknown): pair is [string, string] => Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string');
  if (!pairs.every(isPair)) throw fault('The headers are not texts by name.');
  return { method, target: path, headers: pairs, body: typeof body === 'string' ? body : body === null ? '' : JSON.stringify(body) };
}

function targetOf(url: string): string {
  if (url.startsWith('/')) return url;
  const address = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? url : `https://${url}`);
  if (!address) throw new InputError('The address of the request cannot be read.', 'It should look like https://host/v1/messages, or /v1/messages.');
  return address.pathname;
}

/** A gateway's own path says nothing to the filter, so that an API can be chosen in place of it. */
function sentTo(reading: Pick<Reading, 'shape' | 'notes'>, shape: Shape | null, request: Request): Request {
  if (!shape) return request;
  reading.shape = shape;
  reading.notes.push(`Scored as if it were sent to ${SHAPES[shape].path}, in place of its own path ${request.target.split(/[?#]/)[0]!.slice(0, 200)}.`);
  return { ...request, target: SHAPES[shape].path };
}

const SECRET = /^(cookie2?|authorization|proxy-authorization|x-.*(key|token|secret|auth).*|api-key|.*-api-key|cf-access-.*)$/;

function finish(reading: Pick<Reading, 'form' | 'shape' | 'entries' | 'entry' | 'notes'>, request: Request): Reading {
  if (!/^[A-Za-z]{1,20}$/.test(request.method)) throw new InputError('The method is no word such as POST.', 'Write the request line, or the option -X, anew.');
  // The query may hold a key, and the filter does not score it.
  const path = request.target.split(/[?#]/)[0] || '/';
  const method = request.method.toUpperCase();
  const body = request.body.toWellFormed();
  // A credential counts as a header that is there; what it is nobody needs to know.
  const headers = request.headers.map(([name, value]) => [name.toLowerCase(), SECRET.test(name.toLowerCase()) ? 'hidden' : value.toWellFormed()]);
  const line = JSON.stringify({ method, path: path.toWellFormed(), headers, body, http_version: request.http_version });
  return { ...reading, method, path, body, size: new TextEncoder().encode(body).length, line };
}

const labelOf = ({ method, url }: HarEntry) => `${method} ${url.replace(/^[a-z]+:\/\//i, '').split(/[?#]/)[0]!.slice(0, 80)}`;
