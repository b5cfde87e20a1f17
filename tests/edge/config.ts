// A server that holds signed files for CONFIG_URL, and does wrong what a test asks it to.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import type { KeyPair } from './minisign.ts';
import { type Bundle, signBundle, signRelease } from './release.ts';
import { sha256 } from './support.ts';

export type Reply = (req: http.IncomingMessage, res: http.ServerResponse, text: string | undefined) => unknown;

/** A static file server as there are many: ETags, 304, 404. */
export class Config {
  readonly files = new Map<string, string>();
  readonly asked: { path: string; status: number; conditional: boolean; bytes: number; headers: http.IncomingHttpHeaders }[] = [];
  /** Answers of its own, by the path's end. */
  readonly odd = new Map<string, Reply>();
  #server = http.createServer((req, res) => {
    const target = req.url!.replace('/config', '');
    const text = this.files.get(target);
    const record = { path: target, status: 0, conditional: req.headers['if-none-match'] !== undefined, bytes: 0, headers: req.headers };
    this.asked.push(record);
    res.on('close', () => Object.assign(record, { status: res.statusCode, bytes: res.socket?.bytesWritten ?? record.bytes }));
    const odd = [...this.odd].find(([end]) => target.endsWith(end))?.[1];
    if (odd) return void odd(req, res, text);
    if (text === undefined) return void res.writeHead(404, { 'content-type': 'text/plain' }).end('no such file');
    const etag = `"${sha256(text).slice(0, 16)}"`;
    if (req.headers['if-none-match'] === etag) return void res.writeHead(304, { etag }).end();
    res.writeHead(200, { etag, 'content-type': target.endsWith('.json') ? 'application/json' : 'text/plain' }).end(text);
  });

  private constructor(readonly keys?: KeyPair) {}

  static async start(keys?: KeyPair) {
    const config = new Config(keys);
    await new Promise<void>((done) => config.#server.listen(0, '127.0.0.1', done));
    return config;
  }

  get url() {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}/config/`;
  }

  /** A release and bundles of its own keys. */
  put(text: string, ...bundles: Bundle[]) {
    const release = signRelease(this.keys!, text);
    this.files.set('/release.json', release.text).set('/release.json.minisig', release.signature);
    for (const bundle of bundles) this.files.set(`/bundles/${bundle.digest}.json`, bundle.text).set(`/bundles/${bundle.digest}.json.minisig`, signBundle(this.keys!, bundle).signature);
  }

  /** A directory as the CLI left it. */
  serve(directory: string) {
    this.files.clear();
    for (const name of readdirSync(directory, { recursive: true }) as string[]) {
      const file = path.join(directory, name);
      if (statSync(file).isFile()) this.files.set(`/${name}`, readFileSync(file, 'utf8'));
    }
  }

  /** What was asked for since the last call. */
  take() {
    return this.asked.splice(0);
  }

  close() {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }
}
