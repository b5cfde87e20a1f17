// Bundles and releases in the format of the CLI, and a client of the admin API that checks every
// response against docs/openapi.yaml.
import { expect } from 'vitest';
import { type KeyPair, minisign } from './minisign.ts';
import { assertConforms } from './openapi.ts';
import { type Kv, sha256 } from './support.ts';

export const ADMIN_TOKEN = 'admin-token-of-the-tests';
export const STOP_TOKEN = 'stop-token-of-the-tests!';
export const READ_TOKEN = 'read-token-of-the-tests!';

/**
 * Serialises a value as RFC 8785 does: members sorted by UTF-16 code units, strings and numbers as
 * `JSON.stringify` writes them.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const texts = members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${texts.join(',')}}`;
}

/** Returns the time in whole seconds since the epoch, plus an offset in seconds. */
export const epochSeconds = (offset = 0) => Math.floor(Date.now() / 1000) + offset;
/** Seconds of a day. */
export const DAY = 86_400;
export const EMBEDDED = 'embedded';

// --- Bundles ------------------------------------------------------------------------------------

/** Returns the phrase that a test signature matches. No shipped rule matches it. */
export const phrase = (name: string) => `${name.replaceAll('_', ' ')} below the quiet hedgerow`;

/**
 * Makes a signature that matches `phrase(name)` in user text. Its family is the first word of its
 * name.
 */
export const signature = (
  name: string,
  weight: number,
  comparison: object = { string: { string_match: 'contains', value: phrase(name) } },
) => ({
  name,
  id: `00000000-0000-4000-8000-${sha256(name).slice(0, 12)}`,
  title: `Says ${name}`,
  family: name.split('_')[0]!,
  status: 'stable',
  weight,
  selections: { words: { field: { field: 'hedgerow.prompt.user', ...comparison } } },
  condition: { is: 'words' },
});

export interface Bundle {
  text: string;
  digest: string;
  serial: number;
}

export interface BundleMembers {
  policy?: object;
  /** Signatures that replace the signatures made from `weights`. */
  signatures?: object[];
  correlations?: object[];
  lists?: object[];
  serial?: number;
  format?: number;
}

let bundleCount = 0;

/**
 * Makes a bundle of signatures, given their weights by name. A weight of 22 dB alone makes a
 * request suspect. No two bundles are equal, because each contains a different number.
 */
export function makeBundle(weights: Record<string, number>, members: BundleMembers = {}): Bundle {
  const {
    serial = ++bundleCount,
    policy = {},
    correlations = [],
    format = 1,
    lists = [],
  } = members;
  const signatures =
    members.signatures ??
    Object.keys(weights)
      .sort()
      .map((name) => signature(name, weights[name]!));
  const text = canonicalJson({
    format,
    serial,
    created: epochSeconds(),
    policy,
    signatures,
    correlations,
    lists,
    sources: {},
  });
  return { text, digest: sha256(text), serial };
}

// --- Releases -----------------------------------------------------------------------------------

export interface Manifest {
  /** Version of the manifest's format. */
  release: number;
  serial: number;
  /** Seconds since the epoch. */
  created: number;
  active: string;
  canary?: { digest: string; percent: number };
  shadow?: { digest: string };
  /** Seconds since the epoch. */
  expires?: number;
  /** Time of the stop that the release ends. */
  resumes?: number;
  note: string;
  author: string;
}

/** Makes the text of a manifest. */
export const makeManifest = (
  serial: number,
  active: Bundle | string,
  members: Partial<Manifest> = {},
): string =>
  canonicalJson({
    release: 1,
    serial,
    created: epochSeconds(),
    active: typeof active === 'string' ? active : active.digest,
    note: '',
    author: 'ana',
    ...members,
  });

export interface SignedText {
  text: string;
  signature: string;
}

export const signBundle = (keys: KeyPair, { text, digest }: Bundle): SignedText => ({
  text,
  signature: minisign(keys, text, `hedgerow bundle ${digest}`),
});
export const signRelease = (keys: KeyPair, text: string): SignedText => ({
  text,
  signature: minisign(keys, text, `hedgerow release ${JSON.parse(text).serial}`),
});

// --- KV -----------------------------------------------------------------------------------------

export const putSigned = (kv: Kv, key: string, { text, signature }: SignedText) =>
  kv.put(key, text, { metadata: { signature } });

/** Writes bundles and then a release to KV, without the registry. */
export async function putRelease(kv: Kv, keys: KeyPair, release: string, ...bundles: Bundle[]) {
  for (const bundle of bundles)
    await putSigned(kv, `bundle/${bundle.digest}`, signBundle(keys, bundle));
  await putSigned(kv, 'release', signRelease(keys, release));
}

// --- The admin API ------------------------------------------------------------------------------

export interface AdminResponse {
  status: number;
  headers: Headers;
  body: any;
  ms: number;
}

/** A client of the admin API of one isolate. */
export class Admin {
  constructor(
    readonly edge: { readonly url: string },
    readonly token?: string,
    readonly headers: Record<string, string> = {},
  ) {}

  async call(method: string, path: string, body?: unknown): Promise<AdminResponse> {
    const began = performance.now();
    const response = await fetch(`${this.edge.url}/_hedgerow/v1${path}`, {
      method,
      headers: {
        ...(this.token && { authorization: `Bearer ${this.token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...this.headers,
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    const result = {
      status: response.status,
      headers: response.headers,
      body: JSON.parse(text),
      ms: performance.now() - began,
    };
    expect(response.headers.get('cache-control'), `${method} ${path}`).toBe('no-store');
    assertConforms(method, `/_hedgerow/v1${path}`, result.status, result.body);
    return result;
  }

  get = (path: string) => this.call('GET', path);

  /** Sends a GET request that must succeed, and returns the body. */
  async getOk(path: string) {
    const { status, body } = await this.get(path);
    expect([path, status, body.error]).toEqual([path, 200, undefined]);
    return body;
  }

  status = (query = '') => this.getOk(`/status${query}`);

  /** Uploads a bundle, as `hedgerow push` does. */
  upload = (keys: KeyPair, bundle: Bundle) =>
    this.call('PUT', `/bundles/${bundle.digest}`, {
      bundle: bundle.text,
      signature: signBundle(keys, bundle).signature,
    });

  /** Publishes a manifest, as `hedgerow release`, `promote` or `rollback` does. */
  publish = (
    keys: KeyPair,
    manifest: string,
    endpoint: 'releases' | 'promote' | 'rollback' = 'releases',
  ) =>
    this.call('POST', `/${endpoint}`, {
      release: manifest,
      signature: signRelease(keys, manifest).signature,
    });

  /**
   * Uploads bundles and publishes a release. Fails unless the registry writes the release to KV at
   * once.
   */
  async release(
    keys: KeyPair,
    serial: number,
    active: Bundle | string,
    members: Partial<Manifest> = {},
    ...others: Bundle[]
  ) {
    for (const bundle of [active, ...others]) {
      if (typeof bundle === 'string') continue;
      const { status, body } = await this.upload(keys, bundle);
      expect([status, body.error]).toEqual([expect.toBeOneOf([200, 201]), undefined]);
    }
    const { status, body } = await this.publish(keys, makeManifest(serial, active, members));
    expect([status, body]).toMatchObject([201, { serial, published: true, problem: null }]);
  }
}

// --- Metrics ------------------------------------------------------------------------------------

/** Returns the text of the metrics. */
export async function readMetrics(edge: { url: string }, token = ADMIN_TOKEN): Promise<string> {
  const headers = { authorization: `Bearer ${token}` };
  const response = await fetch(`${edge.url}/_hedgerow/v1/metrics`, { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe(
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
  );
  return response.text();
}
