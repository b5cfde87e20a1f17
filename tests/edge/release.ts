// Bundles and releases as the CLI makes them, made in TypeScript; and the admin API, each of whose answers is held against docs/openapi.yaml.
import { expect } from 'vitest';
import { type KeyPair, minisign } from './minisign.ts';
import { conforms } from './openapi.ts';
import { type Kv, sha256 } from './support.ts';

/** RFC 8785: members by UTF-16 code units; strings and numbers as `JSON.stringify` has them, which is where that RFC took them from. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
}

export const seconds = (from = 0) => Math.floor(Date.now() / 1000) + from;
export const DAY = 86_400;
export const EMBEDDED = 'embedded';

// --- Bundles ----------------------------------------------------------------------------------------------------

/** What a signature of ours looks for: nobody says it by chance, nor any rule of rules/. */
export const phrase = (name: string) => `${name.replaceAll('_', ' ')} below the quiet hedgerow`;

/** A signature that holds where its phrase stands in user text. Its family is its first word. */
export const signature = (name: string, weight: number, test: object = { string: { string_match: 'contains', value: phrase(name) } }) => ({
  name,
  id: `00000000-0000-4000-8000-${sha256(name).slice(0, 12)}`,
  title: `Says ${name}`,
  family: name.split('_')[0]!,
  status: 'stable',
  weight,
  selections: { words: { field: { field: 'hedgerow.prompt.user', ...test } } },
  condition: { is: 'words' },
});

export interface Bundle {
  text: string;
  digest: string;
  serial: number;
}

let pushes = 0;

/** A bundle of signatures by weight: 22 dB alone make a request suspect. Each one is another, even of the same weights. */
export function bundleOf(weights: Record<string, number>, rest: { policy?: object; signatures?: object[]; correlations?: object[]; lists?: object[]; serial?: number; format?: number } = {}): Bundle {
  const { serial = ++pushes, policy = {}, correlations = [], format = 1, lists = [] } = rest;
  const signatures = rest.signatures ?? Object.keys(weights).sort().map((name) => signature(name, weights[name]!));
  const text = canonical({ format, serial, created: seconds(), policy, signatures, correlations, lists, sources: {} });
  return { text, digest: sha256(text), serial };
}

// --- Releases ---------------------------------------------------------------------------------------------------

export interface Manifest {
  release: number;
  serial: number;
  created: number;
  active: string;
  canary?: { digest: string; percent: number };
  shadow?: { digest: string };
  expires?: number;
  note: string;
  author: string;
}

/** A manifest's text. */
export const releaseOf = (serial: number, active: Bundle | string, rest: Partial<Manifest> = {}): string =>
  canonical({ release: 1, serial, created: seconds(), active: typeof active === 'string' ? active : active.digest, note: '', author: 'ana', ...rest });

export interface Signed {
  text: string;
  signature: string;
}

export const signBundle = (keys: KeyPair, { text, digest }: Bundle): Signed => ({ text, signature: minisign(keys, text, `hedgerow bundle ${digest}`) });
export const signRelease = (keys: KeyPair, text: string): Signed => ({ text, signature: minisign(keys, text, `hedgerow release ${JSON.parse(text).serial}`) });

// --- KV ---------------------------------------------------------------------------------------------------------

export const putSigned = (kv: Kv, key: string, { text, signature }: Signed) => kv.put(key, text, { metadata: { signature } });

/** Bundles and then the release that names them, straight into KV. */
export async function plant(kv: Kv, keys: KeyPair, release: string, ...bundles: Bundle[]) {
  for (const bundle of bundles) await putSigned(kv, `bundle/${bundle.digest}`, signBundle(keys, bundle));
  await putSigned(kv, 'release', signRelease(keys, release));
}

// --- The admin API ----------------------------------------------------------------------------------------------

export interface Answer {
  status: number;
  headers: Headers;
  body: any;
  ms: number;
}

/** A client of the admin API. */
export class Admin {
  constructor(
    readonly url: string,
    readonly token?: string,
    readonly headers: Record<string, string> = {},
  ) {}

  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const began = performance.now();
    const response = await fetch(`${this.url}/_hedgerow/v1${path}`, {
      method,
      headers: { ...(this.token && { authorization: `Bearer ${this.token}` }), ...(body !== undefined && { 'content-type': 'application/json' }), ...this.headers },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    const answer = { status: response.status, headers: response.headers, body: JSON.parse(text), ms: performance.now() - began };
    expect(response.headers.get('cache-control'), `${method} ${path}`).toBe('no-store');
    conforms(method, `/_hedgerow/v1${path}`, answer.status, answer.body);
    return answer;
  }

  get = (path: string) => this.call('GET', path);

  /** What must succeed: its body. */
  async got(path: string) {
    const { status, body } = await this.get(path);
    expect([path, status, body.error]).toEqual([path, 200, undefined]);
    return body;
  }

  status = (query = '') => this.got(`/status${query}`);

  upload = (keys: KeyPair, bundle: Bundle) => this.call('PUT', `/bundles/${bundle.digest}`, { bundle: bundle.text, signature: signBundle(keys, bundle).signature });

  publish = (keys: KeyPair, release: string, how: 'releases' | 'promote' | 'rollback' = 'releases') =>
    this.call('POST', `/${how}`, { release, signature: signRelease(keys, release).signature });

  /** `hedgerow push` and `hedgerow release`: what must succeed, at once. */
  async release(keys: KeyPair, serial: number, bundle: Bundle | string, rest: Partial<Manifest> = {}, ...others: Bundle[]) {
    for (const each of [bundle, ...others]) {
      if (typeof each === 'string') continue;
      const { status, body } = await this.upload(keys, each);
      expect([status, body.error]).toEqual([expect.toBeOneOf([200, 201]), undefined]);
    }
    const { status, body } = await this.publish(keys, releaseOf(serial, bundle, rest));
    expect([status, body]).toEqual([201, { serial, published: true, problem: null }]);
  }
}
