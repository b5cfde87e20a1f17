// Reads requests from HAR files, as browsers and proxies save them.
import { isObject } from '../json.ts';
import { InputError } from './input-error.ts';

export interface HarEntry {
  method: string;
  url: string;
  request: Record<string, unknown>;
}

export interface HarRequest {
  method: string;
  headers: [string, string][];
  body: string;
}

/**
 * Returns the entries of a HAR. `json` can also be a single entry. Throws an `InputError` if there
 * are no entries.
 */
export function entriesOf(json: unknown): HarEntry[] {
  const log = isObject(json) && isObject(json.log) ? json.log.entries : [json];
  const items = Array.isArray(log) ? (log as unknown[]) : [];
  const entries = items.flatMap((entry): HarEntry[] => {
    const request = isObject(entry) && isObject(entry.request) ? entry.request : null;
    const { method, url } = request ?? {};
    const isValid = request && typeof method === 'string' && typeof url === 'string';
    return isValid ? [{ method, url, request }] : [];
  });
  if (!entries.length) {
    throw new InputError(
      'The HAR has no request.',
      'Save it with content from the network panel of a browser, or paste one of its entries.',
    );
  }
  return entries;
}

export function parseEntry({ method, request }: HarEntry): HarRequest {
  // Removes the pseudo-headers of HTTP/2, whose names start with a colon.
  const headers = parsePairs(request.headers).filter(([name]) => !name.startsWith(':'));
  const post = isObject(request.postData) ? request.postData : {};
  const encodeForm = () =>
    parsePairs(post.params)
      .map((pair) => pair.map(encodeURIComponent).join('='))
      .join('&');
  const text = typeof post.text === 'string' ? post.text : encodeForm();
  return { method, headers, body: post.encoding === 'base64' ? decodeBase64(text) : text };
}

function parsePairs(value: unknown): [string, string][] {
  const items = Array.isArray(value) ? (value as unknown[]) : [];
  return items.flatMap((pair): [string, string][] =>
    isObject(pair) && typeof pair.name === 'string' ? [[pair.name, String(pair.value ?? '')]] : [],
  );
}

function decodeBase64(text: string): string {
  try {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new InputError('The body of this entry is not text.', 'Choose another entry.');
  }
}
