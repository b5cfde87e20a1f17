// The Worker `store` of a Fleet: the built Durable Objects and KV, with injected faults. PUT sets
// faults, and GET returns counters. Faults apply to the whole fleet, because all its Workers use
// this isolate.
import { DurableObject, WorkerEntrypoint } from 'cloudflare:workers';
import * as built from './index.js';

/**
 * `read`, `write` (of KV), `registry`, `ledger`, `correlator`: null, "throw", "hang" or, for
 * `read`, "half". `clock`: milliseconds by which this isolate's clock is ahead. `timerSpeed`:
 * factor by which timers of at least ten seconds, which are all timeouts, are shortened.
 * `ledgerAlarmSpeed`: factor by which the delays of the ledgers' alarms are shortened.
 * `registryAlarm`: null, or "throw" if the registry cannot set its alarm.
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
  registryAlarm: null,
};
/**
 * Number of calls of each kind of object, and by KV key: number of reads, times of writes, last
 * `cacheTtl`.
 */
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
 * Throws, or hangs as long as the fault is set. Hangs with a timer pending, because workerd cancels
 * requests that wait for a promise that nothing can resolve.
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

/** RPC entry point through which the edge Workers, in other isolates, use KV with faults. */
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
      // `faults.clock` does not affect the platform's clock, which triggers alarms. Subtracts it
      // from `at`.
      storage.setAlarm = (at, ...rest) => {
        if (target === 'registry' && faults.registryAlarm)
          return Promise.reject(new Error('injected: the alarm cannot be set'));
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
      // Removes the alarm, unless the object has set a new one meanwhile.
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
