// The built Worker in workerd, a recording origin on loopback, and what the Worker logged.
//
// Development mode lets a test choose: `x-hedgerow-mode: enforce` overrides the policy's mode, and with it
// `x-hedgerow-action: allow|tag|degrade|throttle|block` overrides the decided action, so that these tests do not depend
// on what a signature weighs today.
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Duplex } from 'node:stream';
import { convertV4MiniflareOptions, Miniflare } from 'miniflare';
import { answer as demoAnswer } from '../../scripts/demo-origin.mjs';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const WRANGLER = readFileSync(path.join(ROOT, 'wrangler.toml'), 'utf8');
export const SECRETS = { ACCOUNT_SECRET: 'account-secret-of-the-tests', TAG_SECRET: 'tag-secret-of-the-tests' };
export const TAGS = ['x-hedgerow-band', 'x-hedgerow-hits', 'x-hedgerow-request-id', 'x-hedgerow-ruleset', 'x-hedgerow-score'];

export const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');
export const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

/** Waits for something to become true (or to be found), with a deadline that names what was waited for. */
export async function until<T>(what: string, probe: () => T | undefined | false | null, ms = 10_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const found = probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}`);
    await sleep(5);
  }
}

/** The same for what has to be asked for: the probe's last failure is the reason that is given. */
export async function eventually<T>(what: string, probe: () => Promise<T>, ms = 15_000): Promise<T> {
  const end = performance.now() + ms;
  for (;;) {
    try {
      return await probe();
    } catch (error) {
      if (performance.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}: ${(error as Error).message}`, { cause: error });
    }
    await sleep(25);
  }
}

// --- Origin -----------------------------------------------------------------------------------------------------

/** One request as the origin received it: raw path, ordered raw headers, hash and (up to 4 MiB) bytes of the body. */
export interface Seen {
  method: string;
  path: string;
  rawHeaders: [string, string][];
  headers: Record<string, string>;
  body: Buffer;
  bytes: number;
  sha256: string;
  /** Arrival of body chunks: [ms, bytes so far]. */
  arrivals: [number, number][];
  state: 'open' | 'complete' | 'aborted';
}

export type Answer = (seen: Seen, res: http.ServerResponse, req: http.IncomingMessage) => unknown;

/** A real HTTP server that records everything. It answers like the demo origin unless a test gives it an answer. */
export class Origin {
  static demo: Answer = (seen, res, req) => demoAnswer(req, seen.body, res, { delay: 5 });
  static ok: Answer = (_, res) => res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}');

  readonly seen: Seen[] = [];
  answer: Answer = Origin.demo;
  #sockets = new Set<Duplex>();
  #server: http.Server;

  private constructor(server: http.Server) {
    this.#server = server;
  }

  static async start(): Promise<Origin> {
    const server = http.createServer({ maxHeaderSize: 4 << 20, keepAliveTimeout: 60_000, requestTimeout: 0 });
    server.maxHeadersCount = 0;
    const origin = new Origin(server);
    server.on('request', (req, res) => void origin.#receive(req, res));
    server.on('upgrade', (req, socket, head) => origin.#upgrade(req, socket, head));
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    return origin;
  }

  get url() {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  get last(): Seen {
    const last = this.seen.at(-1);
    if (!last) throw new Error('the origin has seen nothing');
    return last;
  }

  reset() {
    this.seen.length = 0;
    this.answer = Origin.demo;
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }

  #record(req: http.IncomingMessage): Seen {
    const raw = req.rawHeaders;
    const rawHeaders = raw.flatMap((name, i) => (i % 2 ? [] : [[name, raw[i + 1]!] as [string, string]]));
    const seen: Seen = { method: req.method!, path: req.url!, rawHeaders, headers: Object.fromEntries(rawHeaders.map(([n, v]) => [n.toLowerCase(), v])), body: Buffer.alloc(0), bytes: 0, sha256: '', arrivals: [], state: 'open' };
    this.seen.push(seen);
    return seen;
  }

  async #receive(req: http.IncomingMessage, res: http.ServerResponse) {
    const seen = this.#record(req);
    const hash = createHash('sha256');
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of req as AsyncIterable<Buffer>) {
        seen.bytes += chunk.length;
        seen.arrivals.push([performance.now(), seen.bytes]);
        hash.update(chunk);
        if (seen.bytes <= 4 << 20) chunks.push(chunk);
      }
    } catch {
      seen.state = 'aborted';
      return;
    }
    seen.body = Buffer.concat(chunks);
    seen.sha256 = hash.digest('hex');
    seen.state = 'complete';
    await this.answer(seen, res, req);
  }

  /** The least of WebSocket: accepts, and echoes short text frames. */
  #upgrade(req: http.IncomingMessage, socket: Duplex, head: Buffer) {
    this.#record(req).state = 'complete';
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    const accept = createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
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

export const tagsOf = ({ headers }: Seen) => Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('x-hedgerow')));

/** What an origin does to trust the tags: lines `name:value\n` of all tag headers but the mac, in order of name. */
export const mac = (tags: Record<string, string>) => createHmac('sha256', SECRETS.TAG_SECRET).update(TAGS.map((name) => `${name}:${tags[name] ?? ''}\n`).join('')).digest('hex');

// --- Filter -----------------------------------------------------------------------------------------------------

/** One line of the decision log. */
export interface Decision {
  log: 'hedgerow.decision';
  v: number;
  time: string;
  request_id: string;
  account: string;
  dialect: string;
  operation: string;
  score: number;
  band: 'clear' | 'notice' | 'suspect' | 'hostile';
  action: string;
  mode: string;
  enforced: boolean;
  hits: { name: string; weight: number; field: string; start: number; end: number }[];
  /** The cluster of an indicator that was hit. */
  cluster?: string;
  shadow_hits: string[];
  exemption: string | null;
  ruleset: string;
  /** Where the request should be degraded. */
  degraded?: 'edited' | 'unchanged' | 'not_editable';
  /** The release's serial, and why this ruleset decided. */
  release: number | null;
  rules: 'active' | 'canary' | 'embedded';
  /** What the ruleset that is only watched makes of it, where it differs or not. */
  shadow?: { ruleset: string; score: number; band: Decision['band']; only_active: string[]; only_shadow: string[] };
  body_bytes: number;
  unscanned_bytes: number;
  /** Where less than the window was read: why. */
  read_stop?: 'timeout' | 'memory_pressure';
  unreadable: string[];
  entries: number;
  error: string | null;
}

export interface FilterOptions {
  origin?: Origin | string;
  /** How the Worker reaches it: `ORIGIN` is its URL, a service binding, or `zone` (the request's own URL is fetched). */
  reach?: 'url' | 'service' | 'zone';
  /** Which build: `build`, or `build-faults`. */
  build?: string;
  /** Variables and secrets; `undefined` removes a default. */
  vars?: Record<string, string | undefined>;
  /** A Worker that stands before it, as a module that knows the filter as the service binding FILTER: it is what `url` leads to. */
  caller?: string;
  /** Whether it has the console's files. */
  console?: boolean;
}

type Options = Parameters<typeof convertV4MiniflareOptions>[0];
const COMPATIBILITY = {
  compatibilityDate: /^compatibility_date = "(.+)"/m.exec(WRANGLER)![1]!,
  compatibilityFlags: JSON.parse(/^compatibility_flags = (\[.+\])/m.exec(WRANGLER)![1]!) as string[],
};
/** The console as wrangler.toml binds it. */
const CONSOLE = { assets: { directory: path.join(ROOT, 'build/console'), binding: 'ASSETS', run_worker_first: true, routerConfig: { has_user_worker: true }, assetConfig: { html_handling: 'none', not_found_handling: 'none' } } };
const DIRECT = { cf: false, unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }] };

/** The modules of a build; before them those of ours, which stand beside it as if they had been built. */
function modulesOf(build: string, ...own: string[]) {
  const root = path.resolve(ROOT, build);
  const index = path.join(root, 'index.js');
  if (!existsSync(index)) throw new Error(`${index} does not exist: run \`npm run build\` first`);
  return {
    modulesRoot: root,
    modules: [
      ...own.map((name) => ({ type: 'ESModule' as const, path: path.join(root, name), contents: readFileSync(path.join(ROOT, 'tests/edge', name), 'utf8') })),
      { type: 'ESModule' as const, path: index },
      ...readdirSync(root).filter((name) => name.endsWith('.wasm')).map((name) => ({ type: 'CompiledWasm' as const, path: path.join(root, name) })),
    ],
  };
}

const urlOf = (origin?: Origin | string) => (typeof origin === 'string' ? origin : origin?.url);
const set = (vars: Record<string, string | undefined>) => Object.fromEntries(Object.entries(vars).filter(([, value]) => value !== undefined)) as Record<string, string>;
const BUILD = process.env.HEDGEROW_BUILD ?? 'build';
const OBJECTS = { REGISTRY: { className: 'Registry', useSQLite: true }, LEDGER: { className: 'Ledger', useSQLite: true }, CORRELATOR: { className: 'Correlator', useSQLite: true } };
type ObjectBinding = keyof typeof OBJECTS;

/** One Worker as its clients see it, and what it logged. */
export class Edge {
  url = '';
  readonly logs: { level: string; message: string }[];

  constructor(logs: Edge['logs'] = []) {
    this.logs = logs;
  }

  get port() {
    return Number(new URL(this.url).port);
  }

  decisions(): Decision[] {
    return this.logs.filter(({ message }) => message.startsWith('{"log":"hedgerow.decision"')).map(({ message }) => JSON.parse(message));
  }

  /** The decision of one answered request. The log line may come after the answer. */
  decision(response: { headers: Headers | Record<string, unknown> }): Promise<Decision> {
    const id = response.headers instanceof Headers ? response.headers.get('x-hedgerow-request-id') : response.headers['x-hedgerow-request-id'];
    if (!id) throw new Error('the answer carries no x-hedgerow-request-id');
    return until(`the decision of ${id}`, () => this.decisions().find((line) => line.request_id === id));
  }

  /** POSTs JSON as an ordinary client would. */
  post(pathname: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    return fetch(this.url + pathname, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer sk-test-0001', ...headers },
      body: typeof body === 'string' || body instanceof Uint8Array ? (body as BodyInit) : JSON.stringify(body),
    });
  }

  health(headers: Record<string, string> = {}): Promise<Response> {
    return fetch(`${this.url}/_hedgerow/health`, { headers });
  }

  async version(): Promise<{ version: string; ruleset: string; release: number | null; panic_unwind: boolean }> {
    return (await fetch(`${this.url}/_hedgerow/version`)).json();
  }

  /** An ordinary question: which ruleset decided about it. It is also what makes an isolate look for a release. */
  async ask(content = 'When do blackbirds nest?', headers: Record<string, string> = {}) {
    const began = performance.now();
    const response = await this.post('/v1/chat/completions', chat(content), headers);
    await response.arrayBuffer();
    const header = (name: string) => response.headers.get(`x-hedgerow-${name}`);
    return { status: response.status, ruleset: header('ruleset'), band: header('band'), headers: response.headers, at: performance.now(), ms: performance.now() - began };
  }
}

/** The built Worker in workerd, reached without Miniflare's own entry Worker in between. */
export class Filter extends Edge {
  #miniflare?: Miniflare;

  static async start({ origin, reach = 'url', build = BUILD, vars = {}, caller, console = false }: FilterOptions = {}): Promise<Filter> {
    const filter = new Filter();
    const source = modulesOf(build);
    const originUrl = urlOf(origin);
    const service = { external: { address: originUrl?.replace('http://', ''), http: {} } };
    const hedgerow = {
      name: 'hedgerow',
      ...source,
      ...COMPATIBILITY,
      bindings: set({ ...SECRETS, ENVIRONMENT: 'development', ORIGIN: { url: originUrl, zone: 'zone', service: undefined }[reach], ...vars }),
      kvNamespaces: { RULES: 'rules' },
      durableObjects: OBJECTS,
      ...(console && CONSOLE),
      // In a zone, fetching the request's own URL leads to the origin behind it.
      ...(reach === 'zone' && { outboundService: { node: (req: http.IncomingMessage, res: http.ServerResponse) => relay(req, res, originUrl!) } }),
      ...(reach === 'service' && { serviceBindings: { ORIGIN: service } }),
      ...DIRECT,
    };
    const before = caller && { name: 'caller', modules: true, script: caller, serviceBindings: { FILTER: 'hedgerow' }, ...COMPATIBILITY, ...DIRECT };
    filter.#miniflare = new Miniflare(
      convertV4MiniflareOptions({
        workers: before ? [hedgerow, before] : [hedgerow],
        cf: false,
        handleStructuredLogs: ({ level, message }: { level: string; message: string }) => void filter.logs.push({ level, message }),
      } as Options),
    );
    await filter.#miniflare.ready;
    filter.url = String(await filter.#miniflare.unsafeGetDirectURL(before ? 'caller' : 'hedgerow')).replace(/\/$/, '');
    return filter;
  }

  dispose() {
    return this.#miniflare?.dispose();
  }
}

// --- Fleet ------------------------------------------------------------------------------------------------------

export type Fault = 'throw' | 'hang' | null;
export interface Faults {
  /** Reading KV; `half` cuts values in two. */
  read?: Fault | 'half';
  write?: Fault;
  registry?: Fault;
  ledger?: Fault;
  correlator?: Fault;
  /** Milliseconds by which the objects' clock is ahead. */
  clock?: number;
  /** By how much the objects' waits of ten seconds and more are shorter. */
  haste?: number;
}

/** What the store has seen: calls of its objects, reads by key, and when each key was written. */
export interface Witness {
  registry: number;
  ledger: number;
  correlator: number;
  reads: Record<string, number>;
  /** The last `cacheTtl` of each key. */
  cacheTtl: Record<string, number>;
  writes: Record<string, number[]>;
}

/** As much of KV as is used behind the Worker's back. */
export interface Kv {
  put(key: string, value: string, options?: { metadata?: unknown }): Promise<unknown>;
  delete(key: string): Promise<unknown>;
  getWithMetadata(key: string): Promise<{ value: string | null; metadata: unknown }>;
}

export interface FleetOptions {
  origin?: Origin | string;
  workers?: number;
  vars?: Record<string, string | undefined>;
  /** Instead of `workers` that are all alike: what each has of its own. `rules` names a KV namespace of its own. */
  edges?: { vars?: Record<string, string | undefined>; without?: ('RULES' | ObjectBinding)[]; rules?: string }[];
  /** Whether KV is reached through switches. The objects always are. */
  faults?: boolean;
  /** Whether the objects have KV to publish to. */
  storeHasRules?: boolean;
  build?: string;
  /** Whether each has the console's files. */
  console?: boolean;
}

const RULES = 'rules';

/** Isolates of one deployment, `edge-1` and on, over one store: one KV namespace, one Registry, the Ledgers. It can be stopped and started again. */
export class Fleet {
  readonly logs: Edge['logs'] = [];
  readonly edges: Edge[];
  readonly #options: FleetOptions;
  /** Where KV and objects are kept. */
  readonly directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-fleet-'));
  #store = '';
  #miniflare?: Miniflare;

  private constructor(options: FleetOptions) {
    this.#options = options;
    this.edges = this.#each().map(() => new Edge(this.logs));
  }

  static async start(options: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet(options);
    await fleet.start();
    return fleet;
  }

  #each(): NonNullable<FleetOptions['edges']> {
    return this.#options.edges ?? Array.from({ length: this.#options.workers ?? 3 }, () => ({}));
  }

  /** Starts (again), on the store as it was left. Ports change. */
  async start() {
    const { origin, vars = {}, faults = false, storeHasRules = true, build = BUILD, console = false } = this.#options;
    const common = { ...SECRETS, ENVIRONMENT: 'development', ORIGIN: urlOf(origin), REFRESH_SECONDS: '1', REPORT_SECONDS: '1', ...vars };
    const edge = ({ vars = {}, without = [], rules = RULES }: NonNullable<FleetOptions['edges']>[number], number: number) => {
      const has = (binding: (typeof without)[number]) => !without.includes(binding);
      const objects = Object.entries(OBJECTS).filter(([binding]) => has(binding as ObjectBinding));
      return {
        name: `edge-${number + 1}`,
        ...modulesOf(build, ...(faults ? ['edge.mjs'] : [])),
        ...COMPATIBILITY,
        bindings: set({ ...common, ...vars }),
        ...(has('RULES') && (faults ? { serviceBindings: { RULES: { name: 'store', entrypoint: 'Kv' } } } : { kvNamespaces: { RULES: rules } })),
        durableObjects: Object.fromEntries(objects.map(([binding, object]) => [binding, { ...object, scriptName: 'store' }])),
        ...(console && CONSOLE),
        ...DIRECT,
      };
    };
    const store = { name: 'store', ...modulesOf(build, 'store.mjs'), ...COMPATIBILITY, bindings: set(common), ...(storeHasRules && { kvNamespaces: { RULES } }), durableObjects: OBJECTS, ...DIRECT };
    this.#miniflare = new Miniflare(
      convertV4MiniflareOptions({
        workers: [store, ...this.#each().map(edge)],
        resourcePersistencePath: this.directory,
        cf: false,
        handleStructuredLogs: ({ level, message }: { level: string; message: string }) => void this.logs.push({ level, message }),
      } as Options),
    );
    await this.#miniflare.ready;
    const url = async (name: string) => String(await this.#miniflare!.unsafeGetDirectURL(name)).replace(/\/$/, '');
    this.#store = await url('store');
    for (const [number, edge] of this.edges.entries()) edge.url = await url(`edge-${number + 1}`);
  }

  /** Stops all isolates; the store stays. */
  async stop() {
    await this.#miniflare?.dispose();
  }

  async dispose() {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  get edge(): Edge {
    return this.edges[0]!;
  }

  /** Sets switches; what is not named stays. */
  async fault(faults: Faults = {}) {
    await fetch(this.#store, { method: 'PUT', body: JSON.stringify(faults) });
  }

  async witness(): Promise<Witness> {
    return (await fetch(this.#store)).json() as Promise<Witness>;
  }

  /** KV as an intruder has it: real, and past every switch. */
  async kv(edge?: number): Promise<Kv> {
    return (await this.#miniflare!.getKVNamespace('RULES', edge === undefined ? 'store' : `edge-${edge + 1}`)) as unknown as Kv;
  }

  /** Cron. */
  async cron(edge = 0) {
    const worker = await this.#miniflare!.getWorker(`edge-${edge + 1}`);
    return (worker as unknown as { scheduled(options: object): Promise<{ outcome: string }> }).scheduled({ cron: '* * * * *', scheduledTime: new Date() });
  }

  /** Until a release (null: none) is what every isolate goes by. */
  async everywhere(serial: number | null, ms = 15_000, edges = this.edges) {
    await Promise.all(
      edges.map((edge) =>
        eventually(`release ${serial} at ${edge.url}`, async () => {
          await edge.ask();
          const { release } = await edge.version();
          if (release !== serial) throw new Error(`it goes by ${release}`);
        }, ms),
      ),
    );
  }

  /** Lines of the log that are of a kind: `hedgerow.rules`. */
  lines(log: string): any[] {
    return this.logs.filter(({ message }) => message.includes(`"${log}"`)).map(({ message }) => JSON.parse(message)).filter((line) => line.log === log);
  }
}

/** Clients that go on asking every isolate until they are stopped. What did not come back with 200 is a failure. */
export class Traffic {
  readonly answers: { edge: number; status: number; ruleset: string | null; at: number; ms: number }[] = [];
  readonly failures: string[] = [];
  #going = true;
  #clients: Promise<void>[];

  constructor(edges: Edge[], pause = 20) {
    this.#clients = edges.map(async (edge, number) => {
      while (this.#going) {
        try {
          const { headers, band, ...answer } = await edge.ask(undefined, { authorization: `Bearer sk-traffic-${number}` });
          this.answers.push({ edge: number, ...answer });
          if (answer.status !== 200) this.failures.push(`${answer.status} at edge ${number}`);
        } catch (error) {
          this.failures.push(`${error} at edge ${number}`);
        }
        await sleep(pause);
      }
    });
  }

  /** What rulesets decided since a moment. */
  rulesets(since = 0) {
    return [...new Set(this.answers.filter(({ at }) => at > since).map(({ ruleset }) => ruleset))];
  }

  async stop() {
    this.#going = false;
    await Promise.all(this.#clients);
    return this;
  }
}

function relay(req: http.IncomingMessage, res: http.ServerResponse, base: string) {
  const { pathname, search } = new URL(req.url!, base);
  req.pipe(http.request(`${base}${pathname}${search}`, { method: req.method, headers: req.headers }, (up) => up.pipe(res.writeHead(up.statusCode!, up.headers))));
}

/** The headers that force an action in development. */
export const enforce = (action?: 'allow' | 'tag' | 'degrade' | 'throttle' | 'block') => ({ 'x-hedgerow-mode': 'enforce', ...(action && { 'x-hedgerow-action': action }) });

// --- Clients and fixtures ---------------------------------------------------------------------------------------

export interface RawResponse {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

/** Node's plain client: exact headers, any method, no redirect, no decompression. */
export function send(base: string, { method = 'POST', path: target = '/', headers = {}, body, agent = false }: { method?: string; path?: string; headers?: http.OutgoingHttpHeaders | string[]; body?: Uint8Array | string; agent?: http.Agent | false }): Promise<RawResponse> {
  const { hostname, port } = new URL(base);
  return new Promise((done, fail) => {
    const req = http.request({ hostname, port, method, path: target, headers: headers as http.OutgoingHttpHeaders, agent }, async (res) => {
      try {
        const chunks: Buffer[] = [];
        for await (const chunk of res as AsyncIterable<Buffer>) chunks.push(chunk);
        done({ status: res.statusCode!, headers: res.headers, body: Buffer.concat(chunks) });
      } catch (error) {
        fail(error);
      }
    });
    req.on('error', fail);
    req.end(body);
  });
}

/** A raw socket: what was written is what is sent; resolves with all that came back. */
export function raw(port: number, parts: (string | Uint8Array)[], { end = false, ms = 8000 } = {}): Promise<{ text: string; status: number | null; timedOut: boolean }> {
  return new Promise((done) => {
    const socket = net.connect(port, '127.0.0.1');
    let text = '';
    let timedOut = false;
    const timer = setTimeout(() => ((timedOut = true), socket.destroy()), ms);
    socket.on('data', (data) => {
      text += data.toString('latin1');
      // Complete enough: an answer with a known length, or the last chunk.
      const [head, rest = ''] = text.split(/\r\n\r\n(.*)/s);
      const length = /content-length: (\d+)/i.exec(head!)?.[1];
      if ((length !== undefined && rest.length >= Number(length)) || /\r\n0\r\n\r\n$/.test(text)) socket.end();
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

/** A request from tests/fixtures/requests: request line, headers, empty line, body as it is. */
export function fixture(name: string): Fixture {
  const bytes = readFileSync(path.join(ROOT, 'tests/fixtures/requests', `${name}.http`));
  const split = /\r?\n\r?\n/.exec(bytes.toString('latin1'))!;
  const [line, ...headers] = bytes.subarray(0, split.index).toString().split(/\r?\n/);
  const [method, target] = line!.split(' ');
  return {
    name,
    method: method!,
    path: target!,
    headers: Object.fromEntries(headers.map((header) => [header.slice(0, header.indexOf(':')).toLowerCase(), header.slice(header.indexOf(':') + 1).trim()])),
    body: bytes.subarray(split.index + split[0].length),
  };
}

export const fixtures = () => readdirSync(path.join(ROOT, 'tests/fixtures/requests')).filter((file) => file.endsWith('.http')).sort().map((file) => fixture(path.basename(file, '.http')));

export const sendFixture = (filter: Filter, { method, path, headers, body }: Fixture, extra: Record<string, string> = {}) =>
  send(filter.url, { method, path, headers: { ...headers, 'content-length': String(body.length), ...extra }, body });

export const chat = (content: string, rest: Record<string, unknown> = {}) => ({ model: 'demo-large', messages: [{ role: 'user', content }], ...rest });
export const id = () => randomUUID().slice(0, 8);
