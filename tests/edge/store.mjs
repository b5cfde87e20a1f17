// The Worker `store` of a Fleet: the built Durable Objects and KV behind switches. What is set through /__fault holds
// for the whole fleet, for all of it goes through this one isolate.
import { DurableObject, WorkerEntrypoint } from 'cloudflare:workers';
import * as built from './index.js';

/**
 * `read`, `write` (of KV), `registry`, `ledger`, `correlator`: null, "throw", "hang" or (reading) "half". `clock`: milliseconds that this
 * isolate is ahead. `haste`: by how much waits of ten seconds and more, which are all patience, are shorter.
 */
const faults = { read: null, write: null, registry: null, ledger: null, correlator: null, clock: 0, haste: 1 };
/** Calls of the objects, reads by key, and when each key was written. */
const seen = { registry: 0, ledger: 0, correlator: 0, reads: {}, writes: {}, cacheTtl: {} };

const { Date: Real } = globalThis;
const now = Real.now;
globalThis.Date = class extends Real {
  constructor(...args) {
    super(...(args.length ? args : [Real.now() + faults.clock]));
  }
  static now = () => Real.now() + faults.clock;
};
const { setTimeout } = globalThis;
globalThis.setTimeout = (callback, ms, ...rest) => setTimeout(callback, ms < 10_000 ? ms : ms / faults.haste, ...rest);

/** Hangs as long as the switch says so. Something has to be pending all the while: workerd ends what waits for nothing. */
async function fault(what) {
  while (faults[what] === 'hang') await new Promise((done) => setTimeout(done, 20));
  if (faults[what] === 'throw') throw new Error(`planted: ${what} throws`);
}

const kv = (real) => ({
  async getWithMetadata(key, options) {
    seen.reads[key] = (seen.reads[key] ?? 0) + 1;
    seen.cacheTtl[key] = options?.cacheTtl;
    await fault('read');
    const found = await real.getWithMetadata(key, options);
    return faults.read === 'half' && found.value ? { ...found, value: found.value.slice(0, found.value.byteLength >> 1) } : found;
  },
  async get(key, options) {
    return (await this.getWithMetadata(key, options)).value;
  },
  async put(key, value, options) {
    (seen.writes[key] ??= []).push(now());
    await fault('write');
    return real.put(key, value, options);
  },
  delete(key) {
    (seen.writes[key] ??= []).push(now());
    return real.delete(key);
  },
  list: (options) => real.list(options),
});

/** KV for the edge Workers, which are other isolates. */
export class Kv extends WorkerEntrypoint {}
for (const name of ['getWithMetadata', 'get', 'put', 'delete', 'list']) {
  Kv.prototype[name] = function (...args) {
    return kv(this.env.RULES)[name](...args);
  };
}

const wrapped = (Built, what) =>
  class extends DurableObject {
    #inner;
    constructor(ctx, env) {
      super(ctx, env);
      const { storage } = ctx;
      const { setAlarm } = storage;
      // An alarm rings by the platform's clock, which is not ahead.
      storage.setAlarm = (at, ...rest) => setAlarm.call(storage, Number(at) - faults.clock, ...rest);
      this.#inner = new Built(ctx, { ...env, RULES: env.RULES && kv(env.RULES) });
    }
    async fetch(request) {
      seen[what]++;
      await fault(what);
      return this.#inner.fetch(request);
    }
    async alarm(info) {
      await fault(what);
      return this.#inner.alarm?.(info);
    }
    webSocketMessage(...args) {
      return this.#inner.webSocketMessage?.(...args);
    }
    webSocketClose(...args) {
      return this.#inner.webSocketClose?.(...args);
    }
    webSocketError(...args) {
      return this.#inner.webSocketError?.(...args);
    }
  };

export const Registry = wrapped(built.Registry, 'registry');
export const Ledger = wrapped(built.Ledger, 'ledger');
export const Correlator = wrapped(built.Correlator, 'correlator');

export default {
  async fetch(request) {
    if (request.method === 'PUT') Object.assign(faults, await request.json());
    return Response.json(seen);
  },
};
