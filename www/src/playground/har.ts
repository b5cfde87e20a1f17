// Entries of a HAR: what a browser's network panel or a proxy saves.
import { InputError, isObject } from './problem.ts';

export interface HarEntry {
  method: string;
  url: string;
  request: Record<string, unknown>;
}

/** The entries of a whole HAR, or a single one. */
export function entriesOf(json: unknown): HarEntry[] {
  const log = isObject(json) && isObject(json.log) ? json.log.entries : [json];
  const entries = (Array.isArray(log) ? (log as unknown[]) : []).flatMap((entry): HarEntry[] => {
    const request = isObject(entry) && isObject(entry.request) ? entry.request : null;
    const { method, url } = request ?? {};
    return request && typeof method === 'string' && typeof url === 'string' ? [{ method, url, request }] : [];
  });
  if (!entries.length) throw new InputError('This is no HAR with a request in it.', 'Save it from the network panel of a browser as HAR with content, or paste one entry of it.');
  return entries;
}

export function readEntry({ method, request }: HarEntry): { method: string; headers: [string, string][]; body: string } {
  const named = pairs(request.headers);
  const post = isObject(request.postData) ? request.postData : {};
  const form = () => pairs(post.params).map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  const text = typeof post.text === 'string' ? post.text : form();
  // Those of HTTP/2 that begin with a colon are no headers.
  return { method, headers: named.filter(([name]) => !name.startsWith(':')), body: post.encoding === 'base64' ? decoded(text) : text };
}

function pairs(value: unknown): [string, string][] {
  return (Array.isArray(value) ? (value as unknown[]) : []).flatMap((pair): [string, string][] =>
    isObject(pair) && typeof pair.name === 'string' ? [[pair.name, String(pair.value ?? '')]] : [],
  );
}

function decoded(text: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  } catch {
    throw new InputError('The body of this entry is no text.', 'Choose another entry.');
  }
}
