// Parses pasted text as a request: raw HTTP, a curl command, a HAR, a line of recorded traffic or a
// JSON body.
import { isObject } from '../json.ts';
import { InputError } from './input-error.ts';
import { parseCurl } from './parse-curl.ts';
import { entriesOf, type HarEntry, parseEntry } from './parse-har.ts';
import { toDecision } from './recorded-decision.ts';

export type InputFormat = 'http' | 'curl' | 'har' | 'line' | 'body';
export const INPUT_FORMATS: Record<InputFormat, string> = {
  http: 'raw HTTP request',
  curl: 'curl command',
  har: 'HAR',
  line: 'line of recorded traffic',
  body: 'JSON body',
};

/** The API that a body is meant for. */
export type BodyShape = 'chat' | 'responses' | 'completions' | 'messages' | 'gemini';
export const BODY_SHAPES: Record<BodyShape, { title: string; path: string }> = {
  chat: { title: 'OpenAI chat completions', path: '/v1/chat/completions' },
  responses: { title: 'OpenAI responses', path: '/v1/responses' },
  completions: { title: 'OpenAI completions', path: '/v1/completions' },
  messages: { title: 'Anthropic messages', path: '/v1/messages' },
  gemini: { title: 'Gemini generateContent', path: '/v1beta/models/MODEL:generateContent' },
};

/** The user's choices. A null means that the value is detected. */
export interface ParseOptions {
  format: InputFormat | null;
  shape: BodyShape | null;
  /** Index of a HAR entry. */
  entry: number | null;
}

export interface ParsedInput {
  format: InputFormat;
  /** The API whose path is used. Null if the request keeps its own path. */
  shape: BodyShape | null;
  /** Index and label of each POST request of a HAR. */
  entries: { index: number; label: string }[];
  /** Index of the parsed HAR entry. */
  entry: number | null;
  method: string;
  path: string;
  body: string;
  /** Bytes of the body. */
  size: number;
  /** Hints for the user about the parsing. */
  notes: string[];
  /** The request as a line of recorded traffic, the input of the core. */
  line: string;
}

type Draft = Pick<ParsedInput, 'format' | 'shape' | 'entries' | 'entry' | 'notes'>;

interface Request {
  method: string;
  target: string;
  headers: [string, string][];
  body: string;
  http_version?: string;
}

const MAX_LENGTH = 16 << 20;

/** Parses pasted text. Throws an `InputError`. */
export function parseInput(text: string, options: ParseOptions): ParsedInput {
  if (text.length > MAX_LENGTH) {
    throw new InputError(
      'The input is longer than 16 MiB.',
      'The filter scans 2 MiB of a body; paste a shorter one.',
    );
  }
  const json = parseJson(text);
  if (toDecision(text)) {
    throw new InputError(
      'This is a decision, which has no text of the request to score.',
      'Open its request id under Decisions, or drop a file of decisions here to count them.',
    );
  }
  const format = options.format ?? detectFormat(text, json);
  if (!format) {
    throw new InputError(
      'The format of the input is unknown.',
      'Paste raw HTTP, a curl command, a HAR entry or a JSON body, or choose the format.',
    );
  }
  const draft: Draft = { format, shape: null, entries: [], entry: null, notes: [] };
  if (format === 'body') return finish(draft, bodyRequest(draft, options, text, json));
  const request = parseRequest(draft, options, text, json);
  return finish(draft, withPath(draft, options.shape, request));
}

function parseRequest(draft: Draft, options: ParseOptions, text: string, json: unknown): Request {
  switch (draft.format) {
    case 'curl': {
      const { url, ignored, ...rest } = parseCurl(text);
      if (ignored.length) draft.notes.push(`Ignored options: ${ignored.join(', ')}.`);
      return { ...rest, target: targetOf(url) };
    }
    case 'har':
      return harRequest(draft, options, json);
    case 'line':
      return lineRequest(json);
    default:
      return httpRequest(text);
  }
}

function parseJson(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

const REQUEST_LINE = /^\s*[A-Za-z]{3,20} +(\/|https?:\/\/)\S*( +HTTP\/[\d.]+)?[ \t]*(\r?\n|$)/;

function detectFormat(text: string, json: unknown): InputFormat | null {
  if (/^\s*[[{]/.test(text)) {
    if (!isObject(json)) return 'body';
    const isHar = isObject(json.log) && Array.isArray(json.log.entries);
    const isHarEntry = isObject(json.request) && typeof json.request.url === 'string';
    if (isHar || isHarEntry) return 'har';
    const isLine = typeof json.path === 'string' && ('body' in json || 'headers' in json);
    return isLine ? 'line' : 'body';
  }
  if (/^\s*(\$\s+)?curl(\.exe)?\s/i.test(text)) return 'curl';
  return REQUEST_LINE.test(text) ? 'http' : null;
}

/** Detects the API of a body by its members. */
export function detectShape(json: unknown): BodyShape {
  if (!isObject(json)) return 'chat';
  if (Array.isArray(json.contents)) return 'gemini';
  if (Array.isArray(json.messages)) {
    const model = typeof json.model === 'string' ? json.model : '';
    const members = ['system', 'anthropic_version', 'thinking', 'stop_sequences'];
    const isAnthropic = members.some((name) => name in json) || /(^|[/.])claude/i.test(model);
    return isAnthropic ? 'messages' : 'chat';
  }
  if ('input' in json) return 'responses';
  return 'prompt' in json ? 'completions' : 'chat';
}

function bodyRequest(draft: Draft, options: ParseOptions, text: string, json: unknown): Request {
  const shape = options.shape ?? detectShape(json);
  draft.shape = shape;
  if (json === undefined) {
    draft.notes.push('The input is not valid JSON. It is scored unchanged, as a broken body.');
  }
  draft.notes.push(
    'A body has no headers, so a neutral user agent is assumed. ' +
      'Headers are evidence too: paste the whole request if you have it.',
  );
  // Adds a user agent, because the filter treats a missing user agent as a sign of a client that
  // hides it.
  const headers: Request['headers'] = [
    ['content-type', 'application/json'],
    ['user-agent', 'playground'],
  ];
  return { method: 'POST', target: BODY_SHAPES[shape].path, headers, body: text };
}

function harRequest(draft: Draft, options: ParseOptions, json: unknown): Request {
  const entries = entriesOf(json).map((entry, index) => ({ index, entry }));
  const posts = entries.filter(({ entry }) => entry.method.toUpperCase() === 'POST');
  const offered = posts.length ? posts : entries.slice(0, 1);
  const { index, entry } = offered.find(({ index }) => index === options.entry) ?? offered[0]!;
  draft.entries = offered.map(({ index, entry }) => ({ index, label: labelOf(entry) }));
  draft.entry = index;
  if (!posts.length) draft.notes.push('The HAR has no POST request.');
  return { ...parseEntry(entry), target: targetOf(entry.url) };
}

function httpRequest(text: string): Request {
  const trimmed = text.trimStart();
  const end = /\r?\n\r?\n/.exec(trimmed);
  const head = trimmed.slice(0, end?.index);
  const [first = '', ...lines] = head.split(/\r?\n/);
  const requestLine = /^(\S+) +(\S+)(?: +HTTP\/([\d.]{1,5}))?\s*$/.exec(first);
  if (!requestLine) {
    throw new InputError(
      'The first line is not a request line.',
      'Start with a line such as POST /v1/messages HTTP/1.1.',
    );
  }
  const headers = lines.map((line, index): [string, string] => {
    const colon = line.indexOf(':');
    if (colon < 1) {
      throw new InputError(
        `Line ${index + 2} is not a header.`,
        'Write headers as name: value, and an empty line before the body.',
      );
    }
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
  return {
    method: requestLine[1]!,
    target: targetOf(requestLine[2]!),
    headers,
    body: end ? trimmed.slice(end.index + end[0].length) : '',
    http_version: requestLine[3],
  };
}

function lineRequest(json: unknown): Request {
  const invalid = (message: string) =>
    new InputError(message, 'A line is an object with method, path, headers and body.');
  if (!isObject(json)) throw invalid('The input is not a line of recorded traffic.');
  const { method = 'POST', path, headers = {}, body = '', body_b64 } = json;
  if (typeof method !== 'string' || typeof path !== 'string') {
    throw invalid('The method or the path is not a string.');
  }
  if (body_b64 === true) {
    throw new InputError('The body is Base64.', 'Decode it, or replay the file below.');
  }
  const objectPairs = isObject(headers) ? Object.entries(headers) : [null];
  const pairs: unknown[] = Array.isArray(headers) ? headers : objectPairs;
  const isPair = (pair: unknown): pair is [string, string] =>
    Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string');
  if (!pairs.every(isPair)) throw invalid('The headers are not strings by name.');
  return { method, target: path, headers: pairs, body: bodyText(body) };
}

function bodyText(body: unknown): string {
  if (typeof body === 'string') return body;
  return body === null ? '' : JSON.stringify(body);
}

function targetOf(url: string): string {
  if (url.startsWith('/')) return url;
  const address = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(url) ? url : `https://${url}`);
  if (!address) {
    throw new InputError(
      'The address of the request is invalid.',
      'Write it as https://host/v1/messages or /v1/messages.',
    );
  }
  return address.pathname;
}

/**
 * Replaces the path of a request with the path of an API. Needed for requests to gateways whose
 * paths the filter does not know.
 */
function withPath(draft: Draft, shape: BodyShape | null, request: Request): Request {
  if (!shape) return request;
  const { path } = BODY_SHAPES[shape];
  const original = request.target.split(/[?#]/)[0]!.slice(0, 200);
  draft.shape = shape;
  draft.notes.push(`Scored as if it were sent to ${path} instead of ${original}.`);
  return { ...request, target: path };
}

/** Headers that may contain a credential. */
const SECRET = new RegExp(
  '^(cookie2?|authorization|proxy-authorization|api-key|.*-api-key|cf-access-.*' +
    '|x-.*(key|token|secret|auth).*)$',
);

function finish(draft: Draft, request: Request): ParsedInput {
  if (!/^[A-Za-z]{1,20}$/.test(request.method)) {
    throw new InputError(
      'The method is invalid: expected a word such as POST.',
      'Correct the request line, or the option -X.',
    );
  }
  // Removes the query, because it may contain a key and the filter does not score it.
  const path = request.target.split(/[?#]/)[0] || '/';
  const method = request.method.toUpperCase();
  const body = request.body.toWellFormed();
  // Replaces the values of credentials, because the filter scores only their presence.
  const headers = request.headers.map(([name, value]) => {
    const lowerName = name.toLowerCase();
    return [lowerName, SECRET.test(lowerName) ? 'hidden' : value.toWellFormed()];
  });
  const { http_version } = request;
  const line = JSON.stringify({ method, path: path.toWellFormed(), headers, body, http_version });
  return { ...draft, method, path, body, size: new TextEncoder().encode(body).length, line };
}

function labelOf({ method, url }: HarEntry): string {
  const address = url.replace(/^[a-z]+:\/\//i, '').split(/[?#]/)[0]!;
  return `${method} ${address.slice(0, 80)}`;
}
