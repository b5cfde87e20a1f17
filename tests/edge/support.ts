// Test support: runs the built Worker in workerd, runs an origin that records requests, and
// collects the Worker's log.
//
// If ENVIRONMENT is `development`, a test can choose the outcome of a request: the header
// `x-hedgerow-mode: enforce` overrides the policy's mode. With that header, the header
// `x-hedgerow-action: allow|tag|degrade|throttle|block` overrides the action. So tests do not
// depend on the weights of the shipped signatures.
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { convertV4MiniflareOptions, Miniflare } from 'miniflare';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { answer as demoAnswer } from '../../scripts/demo-origin.mjs';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const WRANGLER = readFileSync(path.join(ROOT, 'wrangler.toml'), 'utf8');
export const SECRETS = {
  ACCOUNT_SECRET: 'account-secret-of-the-tests-with-32-bytes-or-more',
  TAG_SECRET: 'tag-secret-of-the-tests-with-32-bytes-or-more',
};
/** Tag headers that the MAC covers, sorted by name. */
export const TAG_HEADERS = [
  'x-hedgerow-band',
  'x-hedgerow-hits',
  'x-hedgerow-request-id',
  'x-hedgerow-ruleset',
  'x-hedgerow-score',
];

export const sha256 = (bytes: Uint8Array | string) =>
  createHash('sha256').update(bytes).digest('hex');
export const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

/**
 * Returns whether a build product exists. `product` is a path relative to the root of the project.
 * If the product does not exist, prints the command that builds it.
 */
export function isBuilt(product: string, command: string): boolean {
  const exists = existsSync(path.resolve(ROOT, product));
  if (!exists) console.log(`skipped: ${product} does not exist (\`${command}\`)`);
  return exists;
}

/**
 * Time in ms after which a wait fails. The time is long because waits can take minutes on a busy
 * machine, and no test uses a wait to measure speed.
 */
export const PATIENCE_MS = 120_000;

/** Calls `probe` until it returns a truthy value, and returns the value. */
export async function until<T>(
  description: string,
  probe: () => T | undefined | false | null,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = probe();
    if (value) return value;
    if (performance.now() > deadline)
      throw new Error(`timeout after ${timeoutMs} ms: ${description}`);
    await sleep(5);
  }
}

/**
 * Repeats a probe until it does not throw, and returns its value. The error of a timeout contains
 * the last error of the probe.
 */
export async function eventually<T>(
  description: string,
  probe: () => Promise<T>,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (performance.now() > deadline)
        throw new Error(
          `timeout after ${timeoutMs} ms: ${description}: ${(error as Error).message}`,
          { cause: error },
        );
    }
    await sleep(25);
  }
}

/** Repeats a probe for `ms` milliseconds. Fails as soon as the probe throws. */
export async function throughout(ms: number, probe: () => Promise<unknown>, pauseMs = 25) {
  const end = performance.now() + ms;
  do {
    await probe();
    await sleep(pauseMs);
  } while (performance.now() < end);
}

// --- Origin -------------------------------------------------------------------------------------

/**
 * A request as the origin received it, with raw path, raw headers in their order, and the hash of
 * the body.
 */
export interface ReceivedRequest {
  method: string;
  path: string;
  rawHeaders: [string, string][];
  /** Headers by lower-case name. */
  headers: Record<string, string>;
  /** The first chunks of the body, of about 4 MiB. */
  body: Buffer;
  /** Bytes of the body that have arrived so far. */
  bytes: number;
  sha256: string;
  state: 'open' | 'complete' | 'aborted';
}

export type OriginHandler = (
  request: ReceivedRequest,
  res: http.ServerResponse,
  req: http.IncomingMessage,
) => unknown;

/** Number of bytes after which the origin stops recording a body. */
const MAX_RECORDED_BYTES = 4 << 20;

/** An HTTP server that records every request. By default it responds like the demo origin. */
export class Origin {
  static demo: OriginHandler = (request, res, req) =>
    demoAnswer(req, request.body, res, { delay: 5 });
  static ok: OriginHandler = (_, res) =>
    res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}');

  readonly requests: ReceivedRequest[] = [];
  handler: OriginHandler = Origin.demo;
  #sockets = new Set<Duplex>();
  #server = http.createServer({
    maxHeaderSize: 4 << 20,
    keepAliveTimeout: 60_000,
    requestTimeout: 0,
  });

  constructor() {
    this.#server.maxHeadersCount = 0;
    this.#server.on('request', (req, res) => void this.#receive(req, res));
    this.#server.on('upgrade', (req, socket, head) => this.#upgrade(req, socket, head));
  }

  static async start(): Promise<Origin> {
    const origin = new Origin();
    await origin.start();
    return origin;
  }

  start() {
    return new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
  }

  get url() {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  get last(): ReceivedRequest {
    const last = this.requests.at(-1);
    if (!last) throw new Error('the origin has received no request');
    return last;
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }

  #record(req: http.IncomingMessage): ReceivedRequest {
    const raw = req.rawHeaders;
    const rawHeaders = raw.flatMap((name, i) =>
      i % 2 ? [] : [[name, raw[i + 1]!] as [string, string]],
    );
    const headers = Object.fromEntries(
      rawHeaders.map(([name, value]) => [name.toLowerCase(), value]),
    );
    const request: ReceivedRequest = {
      method: req.method!,
      path: req.url!,
      rawHeaders,
      headers,
      body: Buffer.alloc(0),
      bytes: 0,
      sha256: '',
      state: 'open',
    };
    this.requests.push(request);
    return request;
  }

  async #receive(req: http.IncomingMessage, res: http.ServerResponse) {
    const request = this.#record(req);
    const hash = createHash('sha256');
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of req as AsyncIterable<Buffer>) {
        request.bytes += chunk.length;
        hash.update(chunk);
        if (request.bytes <= MAX_RECORDED_BYTES) chunks.push(chunk);
      }
    } catch {
      request.state = 'aborted';
      return;
    }
    request.body = Buffer.concat(chunks);
    request.sha256 = hash.digest('hex');
    request.state = 'complete';
    await this.handler(request, res, req);
  }

  /** Accepts a WebSocket, and echoes text frames of up to 125 bytes. */
  #upgrade(req: http.IncomingMessage, socket: Duplex, head: Buffer) {
    this.#record(req).state = 'complete';
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    const accept = createHash('sha1')
      .update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    const lines = [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${accept}`,
    ];
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    const echo = (frame: Buffer) => {
      if ((frame[0]! & 0x0f) !== 1) return socket.end();
      const length = frame[1]! & 0x7f;
      const mask = frame.subarray(2, 6);
      const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, i) => byte ^ mask[i % 4]!));
      socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]));
    };
    if (head.length) echo(head);
    socket.on('data', echo);
  }
}

/** Returns the headers of a request whose names begin with `x-hedgerow`. */
export const tagHeaders = ({ headers }: ReceivedRequest) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('x-hedgerow')));

/** Returns the tags of a request without the request id, which every LLM call has. */
export function decisionTags(request: ReceivedRequest) {
  const { 'x-hedgerow-request-id': id, ...tags } = tagHeaders(request);
  expect(id ?? '').toMatch(/^[0-9a-f-]{36}$/);
  return tags;
}

/** Computes the MAC of tag headers as an origin does: over lines `name:value\n`, sorted by name. */
export const tagMac = (tags: Record<string, string>, secret = SECRETS.TAG_SECRET) =>
  createHmac('sha256', secret)
    .update(TAG_HEADERS.map((name) => `${name}:${tags[name] ?? ''}\n`).join(''))
    .digest('hex');

// --- Filter -------------------------------------------------------------------------------------

/** One line of the decision log. */
export interface DecisionLine {
  log: 'hedgerow.decision';
  v: number;
  time: string;
  request_id: string;
  account: string;
  account_kind: string;
  /** Keyed hash of the tenant, if it is known. */
  tenant?: string;
  /** Label of the account. This and `tenant_label` exist only if the policy sets `labels`. */
  account_label?: string;
  tenant_label?: string;
  /** Number of different credentials, if there are several. */
  credentials?: number;
  /** Set only if the credential is ignored because it is malformed. */
  credential?: 'malformed';
  dialect: string;
  operation: string;
  /** `websocket` for a message of a WebSocket. */
  transport?: 'websocket';
  /** Share of the decisions like this one that are logged, if it is not 1. */
  logged_share?: number;
  /** Number of earlier messages of the WebSocket that were scored with this one, if any. */
  earlier_messages?: number;
  score: number;
  band: 'clear' | 'notice' | 'suspect' | 'hostile';
  action: string;
  mode: string;
  enforced: boolean;
  hits: { name: string; weight: number; field: string; start: number; end: number }[];
  /** Id of the cluster of the strongest indicator that the request hits. */
  cluster?: string;
  cluster_aliases?: string[];
  other_clusters?: string[];
  shadow_hits: string[];
  exemption: string | null;
  ruleset: string;
  /** Outcome of the action `degrade`. */
  degraded?: 'edited' | 'unchanged' | 'not_editable';
  /** Serial of the release. */
  release: number | null;
  /** Role of the ruleset that decided. */
  rules: 'active' | 'canary' | 'embedded';
  /** Decision of the shadow ruleset. */
  shadow?: {
    ruleset: string;
    score: number;
    band: DecisionLine['band'];
    only_active: string[];
    only_shadow: string[];
  };
  body_bytes: number;
  unscanned_bytes: number;
  unreadable: string[];
  /** Reasons for which parts of the request were not scored. */
  unscored: string[];
  /** Share of the body's bytes that were scored; missing if it is unknown. */
  scored_share?: number;
  /** The reason in `unscored` that determines the action. */
  incomplete?: string;
  entries: number;
  error: string | null;
}

type Variables = Record<string, string | undefined>;

export interface FilterOptions {
  origin?: Origin | string;
  /**
   * Kind of ORIGIN: a URL, a service binding, `zone` (the request's own URL is fetched), or
   * `certificate` (a URL that only the binding ORIGIN_MTLS reaches).
   */
  originKind?: 'url' | 'service' | 'zone' | 'certificate';
  /** Directory of the build: `build`, or `build-faults`. */
  build?: string;
  /** Variables and secrets; `undefined` removes a default. */
  vars?: Variables;
  /**
   * Source of a Worker that calls the filter over its service binding FILTER. If set, `url` is the
   * address of this Worker.
   */
  caller?: string;
  /** Props of that service binding. */
  callerProps?: Record<string, unknown>;
  /**
   * Responses of hosts other than the origin, by URL: a JSON value, or a function that responds.
   */
  hosts?: Record<string, unknown>;
  /** Whether the filter has the console's files. */
  console?: boolean;
}

/** ORIGIN of the kind `certificate`. No server has this name. */
export const CERTIFICATE_ORIGIN = 'http://certificate.invalid/base';

type Options = Parameters<typeof convertV4MiniflareOptions>[0];
const COMPATIBILITY = {
  compatibilityDate: /^compatibility_date = "(.+)"/m.exec(WRANGLER)![1]!,
  compatibilityFlags: JSON.parse(
    /^compatibility_flags = (\[.+\])/m.exec(WRANGLER)![1]!,
  ) as string[],
};
/** The console's files, bound as in wrangler.toml. */
const CONSOLE = {
  assets: {
    directory: path.join(ROOT, 'build/console'),
    binding: 'ASSETS',
    run_worker_first: true,
    routerConfig: { has_user_worker: true },
    assetConfig: { html_handling: 'none', not_found_handling: 'none' },
  },
};
/** A socket that leads directly to the Worker, without Miniflare's entry Worker. */
const DIRECT = { cf: false, unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }] };

/**
 * Returns the modules of a build. They are preceded by the `testModules` of this directory, which
 * import `./index.js` as if they were part of the build.
 */
function buildModules(build: string, ...testModules: string[]) {
  const root = path.resolve(ROOT, build);
  const index = path.join(root, 'index.js');
  if (!existsSync(index)) throw new Error(`${index} does not exist: run \`npm run build\` first`);
  return {
    modulesRoot: root,
    modules: [
      ...testModules.map((name) => ({
        type: 'ESModule' as const,
        path: path.join(root, name),
        contents: readFileSync(path.join(ROOT, 'tests/edge', name), 'utf8'),
      })),
      { type: 'ESModule' as const, path: index },
      ...readdirSync(root)
        .filter((name) => name.endsWith('.wasm'))
        .map((name) => ({ type: 'CompiledWasm' as const, path: path.join(root, name) })),
    ],
  };
}

const originUrl = (origin?: Origin | string) => (typeof origin === 'string' ? origin : origin?.url);
const withoutUndefined = (vars: Variables) =>
  Object.fromEntries(Object.entries(vars).filter(([, value]) => value !== undefined)) as Record<
    string,
    string
  >;
const BUILD = process.env.HEDGEROW_BUILD ?? 'build';
const OBJECTS = {
  REGISTRY: { className: 'Registry', useSQLite: true },
  LEDGER: { className: 'Ledger', useSQLite: true },
  CORRELATOR: { className: 'Correlator', useSQLite: true },
};
type ObjectBinding = keyof typeof OBJECTS;

/** A client of one Worker, with access to the Worker's log. */
export class Edge {
  url = '';
  readonly logs: { level: string; message: string }[];

  constructor(logs: Edge['logs'] = []) {
    this.logs = logs;
  }

  get port() {
    return Number(new URL(this.url).port);
  }

  decisions(): DecisionLine[] {
    return this.logs
      .filter(({ message }) => message.startsWith('{"log":"hedgerow.decision"'))
      .map(({ message }) => JSON.parse(message));
  }

  /** Returns the decision line of a response. The line can arrive after the response. */
  decision(response: { headers: Headers | Record<string, unknown> }): Promise<DecisionLine> {
    const id =
      response.headers instanceof Headers
        ? response.headers.get('x-hedgerow-request-id')
        : response.headers['x-hedgerow-request-id'];
    if (!id) throw new Error('the response has no x-hedgerow-request-id');
    return until(`the decision of ${id}`, () =>
      this.decisions().find((line) => line.request_id === id),
    );
  }

  /** Sends a POST with JSON. */
  post(pathname: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(this.url + pathname, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: 'Bearer sk-test-0001',
        ...headers,
      },
      body:
        typeof body === 'string' || body instanceof Uint8Array
          ? (body as BodyInit)
          : JSON.stringify(body),
    });
  }

  health(headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${this.url}/_hedgerow/health`, { headers });
  }

  async version(): Promise<{
    version: string;
    ruleset: string;
    release: number | null;
    panic_unwind: boolean;
  }> {
    return (await fetch(`${this.url}/_hedgerow/version`)).json();
  }

  /**
   * Sends an ordinary chat request and returns status, headers and time of the response. Each
   * request also makes the isolate poll KV, report counts and send observations, if these are due.
   */
  async ask(content = 'When do blackbirds nest?', headers: Record<string, string> = {}) {
    const began = performance.now();
    const response = await this.post('/v1/chat/completions', chat(content), headers);
    await response.arrayBuffer();
    const header = (name: string) => response.headers.get(`x-hedgerow-${name}`);
    return {
      status: response.status,
      ruleset: header('ruleset'),
      band: header('band'),
      headers: response.headers,
      at: performance.now(),
      ms: performance.now() - began,
    };
  }
}

/** The built Worker in workerd. */
export class Filter extends Edge {
  readonly #options: FilterOptions;
  #miniflare?: Miniflare;

  constructor(options: FilterOptions = {}) {
    super();
    this.#options = options;
  }

  static async start(options: FilterOptions = {}): Promise<Filter> {
    const filter = new Filter(options);
    await filter.start();
    return filter;
  }

  async start() {
    const {
      origin,
      originKind = 'url',
      build = BUILD,
      vars = {},
      caller,
      callerProps,
      hosts,
      console = false,
    } = this.#options;
    const url = originUrl(origin);
    const service = { external: { address: url?.replace('http://', ''), http: {} } };
    const hedgerow = {
      name: 'hedgerow',
      ...buildModules(build),
      ...COMPATIBILITY,
      bindings: withoutUndefined({
        ...SECRETS,
        ENVIRONMENT: 'development',
        // Specs read the lines of clear decisions.
        LOG_DECISIONS: 'all',
        ORIGIN: { url, zone: 'zone', service: undefined, certificate: CERTIFICATE_ORIGIN }[
          originKind
        ],
        ...vars,
      }),
      kvNamespaces: { RULES: 'rules' },
      durableObjects: OBJECTS,
      ...(console && CONSOLE),
      // With ORIGIN `zone`, the filter fetches the request's own URL, which this relay sends to the
      // origin.
      ...(originKind === 'zone' && {
        outboundService: {
          node: (req: http.IncomingMessage, res: http.ServerResponse) => relay(req, res, url!),
        },
      }),
      ...(hosts && {
        outboundService: {
          node: (req: http.IncomingMessage, res: http.ServerResponse) => {
            const host = hosts[`https://${req.headers.host}${req.url}`];
            if (typeof host === 'function') host(res);
            else if (host) res.end(JSON.stringify(host));
            else relay(req, res, url!);
          },
        },
      }),
      ...(originKind === 'service' && { serviceBindings: { ORIGIN: service } }),
      ...(originKind === 'certificate' && { serviceBindings: { ORIGIN_MTLS: service } }),
      ...DIRECT,
    };
    const callerWorker = caller && {
      name: 'caller',
      modules: true,
      script: caller,
      serviceBindings: { FILTER: { name: 'hedgerow', props: callerProps } },
      ...COMPATIBILITY,
      ...DIRECT,
    };
    this.#miniflare = new Miniflare(
      convertV4MiniflareOptions({
        workers: callerWorker ? [hedgerow, callerWorker] : [hedgerow],
        cf: false,
        handleStructuredLogs: ({ level, message }: { level: string; message: string }) =>
          void this.logs.push({ level, message }),
      } as Options),
    );
    await this.#miniflare.ready;
    this.url = String(
      await this.#miniflare.unsafeGetDirectURL(callerWorker ? 'caller' : 'hedgerow'),
    ).replace(/\/$/, '');
  }

  /** Returns the KV namespace RULES of the filter. */
  kv(): Promise<Kv> {
    return this.#miniflare!.getKVNamespace('RULES', 'hedgerow') as unknown as Promise<Kv>;
  }

  async dispose() {
    await this.#miniflare?.dispose();
  }
}

/** Runs a test body with a new filter, and disposes of the filter afterwards. */
export async function withFilter<T>(
  options: FilterOptions,
  body: (filter: Filter) => Promise<T>,
): Promise<T> {
  const filter = await Filter.start(options);
  try {
    return await body(filter);
  } finally {
    await filter.dispose();
  }
}

function relay(req: http.IncomingMessage, res: http.ServerResponse, base: string) {
  const { pathname, search } = new URL(req.url!, base);
  req.pipe(
    http.request(
      `${base}${pathname}${search}`,
      { method: req.method, headers: req.headers },
      (upstream) => upstream.pipe(res.writeHead(upstream.statusCode!, upstream.headers)),
    ),
  );
}

// --- Fleet --------------------------------------------------------------------------------------

export type Fault = 'throw' | 'hang' | null;
export interface Faults {
  /** Fault of KV reads. `half` truncates values to half of their bytes. */
  read?: Fault | 'half';
  /** Fault of KV writes. */
  write?: Fault;
  registry?: Fault;
  ledger?: Fault;
  correlator?: Fault;
  /** Milliseconds by which the clock of the Durable Objects is ahead. */
  clock?: number;
  /** Factor by which timers of at least ten seconds in the Durable Objects are shortened. */
  timerSpeed?: number;
  /** Factor by which the delays of the ledgers' alarms are shortened. */
  ledgerAlarmSpeed?: number;
  /** Whether the registry cannot set its alarm. */
  registryAlarm?: 'throw' | null;
}

type ObjectName = 'registry' | 'ledger' | 'correlator';

/** Counters of the Worker `store`. */
export interface StoreStats extends Record<ObjectName, number> {
  /** Number of reads of KV, by key. */
  reads: Record<string, number>;
  /** The `cacheTtl` of the last read of each KV key. */
  cacheTtl: Record<string, number>;
  /** Times of the writes to KV by key, in milliseconds since the epoch. */
  writes: Record<string, number[]>;
  /** Times at which the alarms of the Durable Objects are due, in milliseconds since the epoch. */
  alarms: Record<ObjectName, number[]>;
}

/** The methods of a KV namespace that tests use directly. */
export interface Kv {
  put(key: string, value: string, options?: { metadata?: unknown }): Promise<unknown>;
  delete(key: string): Promise<unknown>;
  getWithMetadata(key: string): Promise<{ value: string | null; metadata: unknown }>;
}

export interface EdgeOptions {
  vars?: Variables;
  /** Bindings that this isolate does not get. */
  without?: ('RULES' | ObjectBinding)[];
  /** Name of a KV namespace that only this isolate reads, instead of the shared one. */
  rules?: string;
}

export interface FleetOptions {
  origin?: Origin | string;
  /** Number of isolates with equal options. */
  workers?: number;
  /** Options of each isolate, instead of `workers`. */
  edges?: EdgeOptions[];
  /** Variables of all isolates. If this is a function, each start of the fleet calls it. */
  vars?: Variables | (() => Variables);
  /**
   * Whether faults also apply to the KV of the isolates. They always apply to the Durable Objects
   * and their KV.
   */
  faults?: boolean;
  /** Whether the Durable Objects have the binding RULES, the KV namespace to which they publish. */
  storeHasRules?: boolean;
  build?: string;
  /** Whether the isolates have the console's files. */
  console?: boolean;
}

const RULES = 'rules';
/**
 * Milliseconds. If the alarm of a Durable Object is due later than this, it has stored all data.
 */
const IDLE_ALARM_MS = 60_000;
/** Milliseconds for which isolates collect observations for a batch, with a margin. */
const BATCH_MS = 1_300;

/**
 * Isolates of one deployment (`edge-1`, `edge-2` and so on) with one store: a KV namespace, the
 * Registry, the Ledgers and the Correlators. A fleet can be stopped and started again.
 */
export class Fleet {
  readonly logs: Edge['logs'] = [];
  readonly edges: Edge[];
  readonly #options: FleetOptions;
  readonly #edgeOptions: EdgeOptions[];
  #directory = '';
  #storeUrl = '';
  #miniflare?: Miniflare;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#edgeOptions = options.edges ?? Array.from({ length: options.workers ?? 3 }, () => ({}));
    this.edges = this.#edgeOptions.map(() => new Edge(this.logs));
  }

  static async start(options: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet(options);
    await fleet.start();
    return fleet;
  }

  /**
   * Starts the isolates with the data that previous runs have stored. Each start assigns new ports.
   */
  async start() {
    const {
      origin,
      vars = {},
      faults = false,
      storeHasRules = true,
      build = BUILD,
      console = false,
    } = this.#options;
    this.#directory ||= mkdtempSync(path.join(tmpdir(), 'hedgerow-fleet-'));
    const common = {
      ...SECRETS,
      ENVIRONMENT: 'development',
      LOG_DECISIONS: 'all',
      ORIGIN: originUrl(origin),
      REFRESH_SECONDS: '1',
      REPORT_SECONDS: '1',
      // Raises the budget, because specs publish more often than a deployment does in a day.
      KV_WRITES_PER_DAY: '1000000',
      ...(typeof vars === 'function' ? vars() : vars),
    };
    const edge = ({ vars = {}, without = [], rules = RULES }: EdgeOptions, index: number) => {
      const has = (binding: (typeof without)[number]) => !without.includes(binding);
      const objects = Object.entries(OBJECTS).filter(([binding]) => has(binding as ObjectBinding));
      return {
        name: `edge-${index + 1}`,
        ...buildModules(build, ...(faults ? ['faulty-kv-worker.mjs'] : [])),
        ...COMPATIBILITY,
        bindings: withoutUndefined({ ...common, ...vars }),
        ...(has('RULES') &&
          (faults
            ? { serviceBindings: { RULES: { name: 'store', entrypoint: 'Kv' } } }
            : { kvNamespaces: { RULES: rules } })),
        durableObjects: Object.fromEntries(
          objects.map(([binding, object]) => [binding, { ...object, scriptName: 'store' }]),
        ),
        ...(console && CONSOLE),
        ...DIRECT,
      };
    };
    const store = {
      name: 'store',
      ...buildModules(build, 'faulty-kv.mjs'),
      ...COMPATIBILITY,
      bindings: withoutUndefined(common),
      ...(storeHasRules && { kvNamespaces: { RULES } }),
      durableObjects: OBJECTS,
      ...DIRECT,
    };
    this.#miniflare = new Miniflare(
      convertV4MiniflareOptions({
        workers: [store, ...this.#edgeOptions.map(edge)],
        resourcePersistencePath: this.#directory,
        cf: false,
        handleStructuredLogs: ({ level, message }: { level: string; message: string }) =>
          void this.logs.push({ level, message }),
      } as Options),
    );
    await this.#miniflare.ready;
    const url = async (name: string) =>
      String(await this.#miniflare!.unsafeGetDirectURL(name)).replace(/\/$/, '');
    this.#storeUrl = await url('store');
    for (const [index, edge] of this.edges.entries()) edge.url = await url(`edge-${index + 1}`);
  }

  /** Stops all isolates. Stored data is kept. */
  async stop() {
    await this.#miniflare?.dispose();
  }

  async restart() {
    await this.stop();
    await this.start();
  }

  async dispose() {
    await this.stop();
    if (this.#directory) rmSync(this.#directory, { recursive: true, force: true });
  }

  get edge(): Edge {
    return this.edges[0]!;
  }

  /** Sets the given faults, and leaves other faults unchanged. A restart resets all faults. */
  async setFaults(faults: Faults) {
    await fetch(this.#storeUrl, { method: 'PUT', body: JSON.stringify(faults) });
  }

  async stats(): Promise<StoreStats> {
    return (await fetch(this.#storeUrl)).json() as Promise<StoreStats>;
  }

  /**
   * Returns a KV namespace without faults: the namespace of the Durable Objects, or of an isolate.
   */
  async kv(edge?: number): Promise<Kv> {
    return (await this.#miniflare!.getKVNamespace(
      'RULES',
      edge === undefined ? 'store' : `edge-${edge + 1}`,
    )) as unknown as Kv;
  }

  /** Runs the cron trigger of an isolate. */
  async cron(edge = 0) {
    const worker = await this.#miniflare!.getWorker(`edge-${edge + 1}`);
    return (
      worker as unknown as { scheduled(options: object): Promise<{ outcome: string }> }
    ).scheduled({ cron: '* * * * *', scheduledTime: new Date() });
  }

  /**
   * Waits until every isolate has adopted a release. `serial` null waits until no release is
   * adopted.
   */
  async untilRelease(serial: number | null, edges = this.edges) {
    await Promise.all(
      edges.map((edge) =>
        eventually(`release ${serial} at ${edge.url}`, async () => {
          await edge.ask();
          const { release } = await edge.version();
          if (release !== serial) throw new Error(`release ${release} is in force`);
        }),
      ),
    );
  }

  /** Waits until the Durable Objects of a class have stored all data that they have received. */
  async untilStored(object: ObjectName) {
    await eventually(`idle objects of ${object}`, async () => {
      const { alarms } = await this.stats();
      const waits = alarms[object].map((due) => due - Date.now());
      if (waits.some((ms) => ms < IDLE_ALARM_MS))
        throw new Error(`alarms are due in ${waits.join(', ')} ms`);
    });
  }

  /**
   * Waits until the isolates have sent their observations: until no correlator was called for
   * BATCH_MS.
   */
  async untilDelivered(timeoutMs = PATIENCE_MS) {
    const deadline = performance.now() + timeoutMs;
    let calls = (await this.stats()).correlator;
    for (let lastCall = performance.now(); performance.now() - lastCall < BATCH_MS;) {
      await sleep(50);
      const { correlator } = await this.stats();
      if (correlator !== calls) lastCall = performance.now();
      calls = correlator;
      if (performance.now() > deadline)
        throw new Error(`timeout after ${timeoutMs} ms: correlators are called all the time`);
    }
  }

  /** Reads all files of the store as Latin-1. The fleet must be stopped. */
  storedFiles(): { name: string; text: string }[] {
    const names = readdirSync(this.#directory, { recursive: true }) as string[];
    return names
      .filter((name) => statSync(path.join(this.#directory, name)).isFile())
      .map((name) => ({ name, text: readFileSync(path.join(this.#directory, name), 'latin1') }));
  }

  /** Returns the log lines of one kind, such as `hedgerow.rules`. */
  logLines(log: string): any[] {
    return this.logs
      .filter(({ message }) => message.includes(`"${log}"`))
      .map(({ message }) => JSON.parse(message))
      .filter((line) => line.log === log);
  }
}

/**
 * Clients that send requests to every isolate all the time. A status other than 200 is a failure.
 */
export class Traffic {
  readonly responses: {
    edge: number;
    status: number;
    ruleset: string | null;
    at: number;
    ms: number;
  }[] = [];
  readonly failures: string[] = [];
  #running = false;
  #clients: Promise<void>[] = [];

  constructor(
    readonly edges: Edge[],
    readonly pauseMs = 20,
  ) {}

  start() {
    this.#running = true;
    this.#clients = this.edges.map(async (edge, number) => {
      while (this.#running) {
        try {
          const { headers, band, ...response } = await edge.ask(undefined, {
            authorization: `Bearer sk-traffic-${number}`,
          });
          this.responses.push({ edge: number, ...response });
          if (response.status !== 200) this.failures.push(`${response.status} at edge ${number}`);
        } catch (error) {
          this.failures.push(`${error} at edge ${number}`);
        }
        await sleep(this.pauseMs);
      }
    });
  }

  /** Returns the rulesets that have decided requests since a time. */
  rulesets(since = 0) {
    return [
      ...new Set(this.responses.filter(({ at }) => at > since).map(({ ruleset }) => ruleset)),
    ];
  }

  /**
   * Waits for `count` more responses of every isolate. Returns the time at which the wait began.
   */
  async untilResponses(count: number): Promise<number> {
    const since = performance.now();
    const responses = (number: number) =>
      this.responses.filter(({ edge, at }) => edge === number && at > since).length;
    await until(`${count} responses of every isolate`, () =>
      this.edges.every((_, number) => responses(number) >= count),
    );
    return since;
  }

  async stop() {
    this.#running = false;
    await Promise.all(this.#clients);
  }
}

// --- Fixtures of a spec -------------------------------------------------------------------------

/**
 * Starts an origin for all tests of a file or `describe`, and closes it after them. Before each
 * test, the origin's recorded requests are cleared and its handler is reset to `handler`.
 */
export function useOrigin(handler: OriginHandler = Origin.demo): Origin {
  const origin = new Origin();
  beforeAll(() => origin.start());
  afterAll(() => origin.close());
  beforeEach(() => {
    origin.requests.length = 0;
    origin.handler = handler;
  });
  origin.handler = handler;
  return origin;
}

/** Starts a filter for all tests of a file or `describe`, and disposes of it after them. */
export function useFilter(options: FilterOptions): Filter {
  const filter = new Filter(options);
  beforeAll(() => filter.start());
  afterAll(() => filter.dispose());
  return filter;
}

/** Starts a fleet for all tests of a file or `describe`, and disposes of it after them. */
export function useFleet(options: FleetOptions): Fleet {
  const fleet = new Fleet(options);
  beforeAll(() => fleet.start());
  afterAll(() => fleet.dispose());
  return fleet;
}

/** Sends traffic during all tests of a file or `describe`. */
export function useTraffic(edges: Edge[], pauseMs?: number): Traffic {
  const traffic = new Traffic(edges, pauseMs);
  beforeAll(() => traffic.start());
  afterAll(() => traffic.stop());
  return traffic;
}

// --- Clients and requests -----------------------------------------------------------------------

/** Returns the headers that override mode and action in development. */
export const enforce = (action?: 'allow' | 'tag' | 'degrade' | 'throttle' | 'block') => ({
  'x-hedgerow-mode': 'enforce',
  ...(action && { 'x-hedgerow-action': action }),
});

export interface RawResponse {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

/**
 * Sends a request with exactly these headers. Does not follow redirects or decompress the response.
 */
export function send(
  base: string,
  {
    method = 'POST',
    path: target = '/',
    headers = {},
    body,
    agent = false,
  }: {
    method?: string;
    path?: string;
    headers?: http.OutgoingHttpHeaders | string[];
    body?: Uint8Array | string;
    agent?: http.Agent | false;
  },
): Promise<RawResponse> {
  const { hostname, port } = new URL(base);
  return new Promise((done, fail) => {
    const req = http.request(
      { hostname, port, method, path: target, headers: headers as http.OutgoingHttpHeaders, agent },
      async (res) => {
        try {
          const chunks: Buffer[] = [];
          for await (const chunk of res as AsyncIterable<Buffer>) chunks.push(chunk);
          done({ status: res.statusCode!, headers: res.headers, body: Buffer.concat(chunks) });
        } catch (error) {
          fail(error);
        }
      },
    );
    req.on('error', fail);
    req.end(body);
  });
}

/** Opens a socket that ignores errors. */
export const connect = (port: number) => net.connect(port, '127.0.0.1').on('error', () => {});

/** Writes bytes to a socket, and returns the response as soon as it is complete. */
export function sendRaw(
  port: number,
  parts: (string | Uint8Array)[],
  { end = false, ms = 8000 } = {},
): Promise<{ text: string; status: number | null; timedOut: boolean }> {
  return new Promise((done) => {
    const socket = net.connect(port, '127.0.0.1');
    let text = '';
    let timedOut = false;
    const timer = setTimeout(() => ((timedOut = true), socket.destroy()), ms);
    socket.on('data', (data) => {
      text += data.toString('latin1');
      // A response is complete with a body of the declared length, or with the last chunk.
      const [head, rest = ''] = text.split(/\r\n\r\n(.*)/s);
      const length = /content-length: (\d+)/i.exec(head!)?.[1];
      if ((length !== undefined && rest.length >= Number(length)) || /\r\n0\r\n\r\n$/.test(text))
        socket.end();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(timer);
      const status = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1];
      done({ text, status: status ? Number(status) : null, timedOut });
    });
    for (const part of parts) socket.write(part);
    if (end) socket.end();
  });
}

export interface Fixture {
  name: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  body: Buffer;
}

const FIXTURES = path.join(ROOT, 'tests/fixtures/requests');

/**
 * Reads a request from tests/fixtures/requests. A file has a request line, headers, an empty line,
 * and a body.
 */
export function fixture(name: string): Fixture {
  const bytes = readFileSync(path.join(FIXTURES, `${name}.http`));
  const split = /\r?\n\r?\n/.exec(bytes.toString('latin1'))!;
  const [line, ...headers] = bytes.subarray(0, split.index).toString().split(/\r?\n/);
  const [method, target] = line!.split(' ');
  return {
    name,
    method: method!,
    path: target!,
    headers: Object.fromEntries(
      headers.map((header) => [
        header.slice(0, header.indexOf(':')).toLowerCase(),
        header.slice(header.indexOf(':') + 1).trim(),
      ]),
    ),
    body: bytes.subarray(split.index + split[0].length),
  };
}

export const fixtures = () =>
  readdirSync(FIXTURES)
    .filter((file) => file.endsWith('.http'))
    .sort()
    .map((file) => fixture(path.basename(file, '.http')));

export const sendFixture = (
  filter: Edge,
  { method, path, headers, body }: Fixture,
  extra: Record<string, string> = {},
) =>
  send(filter.url, {
    method,
    path,
    headers: { ...headers, 'content-length': String(body.length), ...extra },
    body,
  });

export const chat = (content: string, members: Record<string, unknown> = {}) => ({
  model: 'demo-large',
  messages: [{ role: 'user', content }],
  ...members,
});
export const shortId = () => randomUUID().slice(0, 8);

// --- Canaries -----------------------------------------------------------------------------------

/** Unique contents for each part of a request. They must not be stored or logged anywhere. */
export const CANARIES = {
  prompt: 'canary-of-the-prompt',
  credential: 'sk-canary-of-the-credential',
  address: '203.0.113.78',
  agent: 'canary-of-the-agent',
  query: 'canary-of-the-query',
  model: 'canary-of-the-model@example.com',
  header: 'canary-of-the-header',
};

/** Fails if one of the texts contains one of the secrets. */
export function expectNoLeak(texts: Record<string, string>, secrets: string[]) {
  for (const [name, text] of Object.entries(texts)) {
    expect(
      secrets.filter((secret) => text.includes(secret)),
      name,
    ).toEqual([]);
  }
}
