// A server of signed releases and bundles, for CONFIG_URL. Tests can inject faults.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import type { KeyPair } from './minisign.ts';
import { type Bundle, signBundle, signRelease } from './release-fixtures.ts';
import { sha256 } from './support.ts';

/** A handler that replaces the response to one path. `text` is the file's content. */
export type FaultHandler = (
  req: http.IncomingMessage,
  res: http.ServerResponse,
  text: string | undefined,
) => unknown;

export interface ConfigRequest {
  path: string;
  readonly status: number;
  /** Whether the request has `if-none-match`. */
  conditional: boolean;
  /** Bytes that the server has sent on the connection. */
  bytes: number;
  headers: http.IncomingHttpHeaders;
}

/** An ordinary static file server, with ETags, 304 and 404. */
export class ConfigServer {
  readonly files = new Map<string, string>();
  /** Handlers that replace responses, by the end of the requested path. */
  readonly faults = new Map<string, FaultHandler>();
  readonly #requests: ConfigRequest[] = [];
  #server = http.createServer((req, res) => {
    const target = req.url!.replace('/config', '');
    const text = this.files.get(target);
    const request = {
      path: target,
      get status() {
        return res.statusCode;
      },
      conditional: req.headers['if-none-match'] !== undefined,
      bytes: 0,
      headers: req.headers,
    };
    this.#requests.push(request);
    res.on('close', () => (request.bytes = res.socket?.bytesWritten ?? request.bytes));
    const fault = [...this.faults].find(([end]) => target.endsWith(end))?.[1];
    if (fault) return void fault(req, res, text);
    if (text === undefined)
      return void res.writeHead(404, { 'content-type': 'text/plain' }).end('no such file');
    const etag = `"${sha256(text).slice(0, 16)}"`;
    if (req.headers['if-none-match'] === etag) return void res.writeHead(304, { etag }).end();
    res
      .writeHead(200, {
        etag,
        'content-type': target.endsWith('.json') ? 'application/json' : 'text/plain',
      })
      .end(text);
  });

  constructor(readonly keys?: KeyPair) {}

  start() {
    return new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
  }

  get url() {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}/config/`;
  }

  /** Replaces the release, and adds bundles, all signed with the server's keys. */
  putRelease(text: string, ...bundles: Bundle[]) {
    const release = signRelease(this.keys!, text);
    this.files.set('/release.json', release.text).set('/release.json.minisig', release.signature);
    for (const bundle of bundles)
      this.files
        .set(`/bundles/${bundle.digest}.json`, bundle.text)
        .set(`/bundles/${bundle.digest}.json.minisig`, signBundle(this.keys!, bundle).signature);
  }

  /** Replaces all files with the files of a directory. */
  serveDirectory(directory: string) {
    this.files.clear();
    for (const name of readdirSync(directory, { recursive: true }) as string[]) {
      const file = path.join(directory, name);
      if (statSync(file).isFile()) this.files.set(`/${name}`, readFileSync(file, 'utf8'));
    }
  }

  /** Returns the requests since the last call. */
  takeRequests() {
    return this.#requests.splice(0);
  }

  close() {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }
}

/** Starts a config server for all tests of a file or `describe`, and closes it after them. */
export function useConfigServer(keys?: KeyPair): ConfigServer {
  const server = new ConfigServer(keys);
  beforeAll(() => server.start());
  afterAll(() => server.close());
  return server;
}
