// The Worker `store` of a Fleet: the built Durable Objects and KV, with faults. PUT sets faults,
// GET returns the counters. Faults apply to the whole fleet, since this is one isolate.
import { DurableObject, WorkerEntrypoint } from 'cloudflare:workers';
import * as built from './index.js';

/**
 * `read`, `write` (of KV), `registry`, `ledger`, `correlator`: null, "throw", "hang" or, for
 * `read`, "half". `clock`: milliseconds by which this isolate's clock is ahead. `timerSpeed`:
 * factor by which timers of ten seconds and more, all of them timeouts, are shortened.
 * `ledgerAlarmSpeed`: factor by which the ledgers' alarms are earlier.
 */
const faults = {
  read: null,
  write: null,
  registry: null,
  ledger: null,
  correlator: null,
  clock: 0,
  timerSpeed: 1,
  ledgerAlarmSpeed: 1,
};
/** Calls of the objects, reads of KV by key, and the times of writes by key. */
const stats = { registry: 0, ledger: 0, correlator: 0, reads: {}, writes: {}, cacheTtl: {} };
/** Times at which alarms are due, by object name and id, in milliseconds since the epoch. */
const alarms = { registry: new Map(), ledger: new Map(), correlator: new Map() };

const { Date: RealDate } = globalThis;
const now = RealDate.now;
globalThis.Date = class extends RealDate {
  constructor(...args) {
    super(...(args.length ? args : [RealDate.now() + faults.clock]));
  }
  static now = () => RealDate.now() + faults.clock;
};
const { setTimeout } = globalThis;
globalThis.setTimeout = (callback, ms, ...rest) =>
  setTimeout(callback, ms < 10_000 ? ms : ms / faults.timerSpeed, ...rest);

/**
 * Throws, or hangs as long as the fault is set. A timer is always pending, because workerd ends
 * requests that wait for nothing.
 */
async function applyFault(target) {
  while (faults[target] === 'hang') await new Promise((done) => setTimeout(done, 20));
  if (faults[target] === 'throw') throw new Error(`injected: ${target} throws`);
}

const faultyKv = (kv) => ({
  async getWithMetadata(key, options) {
    stats.reads[key] = (stats.reads[key] ?? 0) + 1;
    stats.cacheTtl[key] = options?.cacheTtl;
    await applyFault('read');
    const entry = await kv.getWithMetadata(key, options);
    return faults.read === 'half' && entry.value
      ? { ...entry, value: entry.value.slice(0, entry.value.byteLength >> 1) }
      : entry;
  },
  async get(key, options) {
    return (await this.getWithMetadata(key, options)).value;
  },
  async put(key, value, options) {
    (stats.writes[key] ??= []).push(now());
    await applyFault('write');
    return kv.put(key, value, options);
  },
  delete(key) {
    (stats.writes[key] ??= []).push(now());
    return kv.delete(key);
  },
  list: (options) => kv.list(options),
});

/** KV for the edge Workers, which are other isolates. */
export class Kv extends WorkerEntrypoint {}
for (const name of ['getWithMetadata', 'get', 'put', 'delete', 'list']) {
  Kv.prototype[name] = function (...args) {
    return faultyKv(this.env.RULES)[name](...args);
  };
}

const withFaults = (BuiltObject, target) =>
  class extends DurableObject {
    #object;
    #alarms = alarms[target];
    constructor(ctx, env) {
      super(ctx, env);
      const { storage } = ctx;
      const { setAlarm, deleteAlarm } = storage;
      // The platform's clock, by which alarms run, is not ahead.
      storage.setAlarm = (at, ...rest) => {
        const delay = Number(at) - faults.clock - now();
        const due = Math.round(
          now() + (target === 'ledger' ? delay / faults.ledgerAlarmSpeed : delay),
        );
        this.#alarms.set(String(ctx.id), due);
        return setAlarm.call(storage, due, ...rest);
      };
      storage.deleteAlarm = (...args) => {
        this.#alarms.delete(String(ctx.id));
        return deleteAlarm.call(storage, ...args);
      };
      this.#object = new BuiltObject(ctx, { ...env, RULES: env.RULES && faultyKv(env.RULES) });
    }
    async fetch(request) {
      stats[target]++;
      await applyFault(target);
      return this.#object.fetch(request);
    }
    async alarm(info) {
      await applyFault(target);
      const id = String(this.ctx.id);
      const due = this.#alarms.get(id);
      await this.#object.alarm?.(info);
      // Unless the object has set another.
      if (this.#alarms.get(id) === due) this.#alarms.delete(id);
    }
    webSocketMessage(...args) {
      return this.#object.webSocketMessage?.(...args);
    }
    webSocketClose(...args) {
      return this.#object.webSocketClose?.(...args);
    }
    webSocketError(...args) {
      return this.#object.webSocketError?.(...args);
    }
  };

export const Registry = withFaults(built.Registry, 'registry');
export const Ledger = withFaults(built.Ledger, 'ledger');
export const Correlator = withFaults(built.Correlator, 'correlator');

const alarmTimes = () =>
  Object.fromEntries(
    Object.entries(alarms).map(([target, times]) => [target, [...times.values()]]),
  );

export default {
  async fetch(request) {
    if (request.method === 'PUT') Object.assign(faults, await request.json());
    return Response.json({ ...stats, alarms: alarmTimes() });
  },
};
