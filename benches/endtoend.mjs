// Measures the built Worker in workerd under wrk, and as baselines two Workers that only forward
// (one in Rust, one in JavaScript) and a Worker that also reads the body and logs. All Workers use
// the same origin and receive equal requests, in turn.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { convertV4MiniflareOptions, Miniflare } from 'miniflare';
import { Failure, fromRoot, start, stop, tryCapture } from '../scripts/lib/proc.mjs';

const WRANGLER = readFileSync(fromRoot('wrangler.toml'), 'utf8');
const CONNECTIONS = [1, 16, 64];
/** The Workers: name, directory, main module. */
const WORKERS = [
  ['ours', 'build'],
  ['baseline-rust', 'build/baseline-rust'],
  ['baseline-js', 'benches/baseline-js', 'forward.js'],
  ['baseline-js-reading', 'benches/baseline-js', 'read.js'],
];
const OBJECTS = Object.fromEntries(
  ['Registry', 'Ledger', 'Correlator'].map((className) => [
    className.toUpperCase(),
    { className, useSQLite: true },
  ]),
);
const SECRETS = {
  ACCOUNT_SECRET: 'account-secret-of-the-benchmark-with-32-bytes',
  TAG_SECRET: 'tag-secret-of-the-benchmark-with-32-bytes',
};
/** The settings of all Workers. The Worker that Hedgerow is compared with logs each request. */
const SETTINGS = { ...SECRETS, LOG_DECISIONS: 'all' };

/**
 * Returns rows of times and latencies of Hedgerow and of each baseline, and the memory of each
 * Worker. Returns `null` if wrk is not installed. `bodies`: [bytes, file][]
 */
export async function endtoend(bodies, { rounds, seconds }) {
  if (tryCapture('which', ['wrk']) === null) {
    console.log('end to end: not measured: wrk is missing (Debian: apt-get install wrk)');
    return null;
  }
  const origin = await startOrigin();
  const workers = [];
  try {
    const seen = new Set(workerdPids());
    for (const [name, directory, entry] of WORKERS) {
      const worker = { name, ...(await serve(directory, origin.url, entry)) };
      workers.push(worker);
      for (let i = 0; i < 20; i++)
        await (
          await fetch(`${worker.url}/v1/chat/completions`, {
            method: 'POST',
            body: readFileSync(bodies[0][1]),
            headers: { authorization: 'Bearer sk-bench', 'content-type': 'application/json' },
          })
        ).text();
      const pid = workerdPids().find((pid) => !seen.has(pid));
      seen.add(pid);
      worker.memory = pid && { process: proportionalSetSize(pid), heap: await heapBytes(worker) };
    }
    const rows = [];
    for (const [bytes, file] of bodies) {
      for (const connections of CONNECTIONS)
        rows.push(
          ...rowsOf({
            bytes,
            connections,
            samples: await sampled(workers, file, { connections, rounds, seconds }),
          }),
        );
    }
    return {
      rows,
      memory: workers.every(({ memory }) => memory)
        ? Object.fromEntries(workers.map(({ name, memory }) => [name, memory]))
        : null,
    };
  } finally {
    for (const { miniflare } of workers) await miniflare.dispose();
    await stop(origin.process);
  }
}

/** Starts the fake origin and returns its process and URL. */
export async function startOrigin() {
  const child = start(process.execPath, [fromRoot('benches/fake-origin.mjs')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const url = String(await new Promise((resolve) => child.stdout.once('data', resolve))).trim();
  return { process: child, url };
}

/** Returns the ids of all workerd processes on this machine. */
const workerdPids = () =>
  (tryCapture('pgrep', ['-x', 'workerd']) ?? '').split('\n').filter(Boolean);

/** Returns the memory of a process in bytes; shared pages count proportionally. */
const proportionalSetSize = (pid) =>
  1024 * Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);

/** Returns the size of an isolate's heap in bytes, as its inspector reports it. */
async function heapBytes(worker) {
  const inspector = await inspect(worker);
  const { usedSize, backingStorageSize } = await inspector.call('Runtime.getHeapUsage');
  inspector.close();
  return usedSize + backingStorageSize;
}

/** Connects to an isolate's inspector. Calls run one after the other. */
export async function inspect({ miniflare }) {
  const { host } = await miniflare.getInspectorURL();
  const targets = await (await fetch(`http://${host}/json`)).json();
  const socket = new WebSocket(
    targets.find(({ id }) => id === 'core:user:bench').webSocketDebuggerUrl,
  );
  await new Promise((resolve) => socket.addEventListener('open', resolve));
  const pending = new Map();
  const listeners = new Map();
  socket.addEventListener('message', ({ data }) => {
    const { id, result, method, params } = JSON.parse(data);
    pending.get(id)?.(result);
    listeners.get(method)?.(params);
  });
  const call = (method, params = {}) =>
    new Promise((resolve) => {
      const id = pending.size + 1;
      pending.set(id, resolve);
      socket.send(JSON.stringify({ id, method, params }));
    });
  const onEvent = (method, listener) => listeners.set(method, listener);
  return { call, onEvent, close: () => socket.close() };
}

/**
 * Serves one Worker in its own workerd process. Requests reach the Worker directly, without
 * Miniflare's proxy.
 */
export async function serve(directory, origin, entry = 'index.js') {
  const root = fromRoot(directory);
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      name: 'bench',
      modulesRoot: root,
      modules: [
        { type: 'ESModule', path: path.join(root, entry) },
        ...readdirSync(root)
          .filter((name) => name.endsWith('.wasm'))
          .map((name) => ({ type: 'CompiledWasm', path: path.join(root, name) })),
      ],
      compatibilityDate: /^compatibility_date = "(.+)"/m.exec(WRANGLER)[1],
      compatibilityFlags: JSON.parse(/^compatibility_flags = (\[.+\])/m.exec(WRANGLER)[1]),
      bindings: { ORIGIN: origin, ...SETTINGS },
      ...(/^build(\/named)?$/.test(directory) && {
        kvNamespaces: { RULES: 'rules' },
        durableObjects: OBJECTS,
      }),
      cf: false,
      inspectorPort: 0,
      unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
      // Workers write log lines; the benchmark discards them.
      handleStructuredLogs: () => {},
    }),
  );
  await miniflare.ready;
  return { miniflare, url: String(await miniflare.unsafeGetDirectURL('bench')).replace(/\/$/, '') };
}

/**
 * Samples the Workers in turn after one warm-up round, so that load on the machine affects all
 * alike.
 */
async function sampled(workers, file, { connections, rounds, seconds }) {
  const samples = Object.fromEntries(workers.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const { name, url } of workers) {
      const output = await wrk(
        ['-t', '1', '-c', connections, '-d', `${seconds}s`, '-s', fromRoot('benches/wrk.lua'), url],
        { BODY: file },
      );
      const sample = JSON.parse(
        output.split('\n').findLast((line) => line.startsWith('{')) ?? 'null',
      );
      if (!sample || sample.errors || !sample.requests)
        throw new Failure(`wrk against ${name} with ${connections} connections: ${output}`);
      if (round >= 0) samples[name].push({ ...sample, mean: sample.us / sample.requests });
    }
    process.stdout.write('.');
  }
  return samples;
}

/**
 * Runs wrk and returns its output. wrk runs asynchronously, so that this process keeps reading the
 * Workers' logs.
 */
export async function wrk(args, env) {
  const child = start('wrk', args.map(String), { env });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => output.push(data));
  await new Promise((resolve) => child.once('close', resolve));
  return Buffer.concat(output).toString();
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

/**
 * Returns a row for each baseline: microseconds per request, and the ratios of means and latencies.
 */
function rowsOf({ bytes, connections, samples }) {
  const of = (name, value) => Math.round(median(samples[name].map((sample) => sample[value])));
  const ratio = (name, value) =>
    Number(
      median(
        samples.ours.map((sample, round) => sample[value] / samples[name][round][value]),
      ).toFixed(3),
    );
  return Object.keys(samples)
    .filter((name) => name !== 'ours')
    .map((peer) => ({
      phase: 'endtoend',
      host: 'workerd',
      bytes,
      text: 'everyday',
      connections,
      ours_us: of('ours', 'mean'),
      peer,
      peer_us: of(peer, 'mean'),
      ratio: ratio(peer, 'mean'),
      p50_us: of('ours', 'p50'),
      p50_ratio: ratio(peer, 'p50'),
      p99_us: of('ours', 'p99'),
      p99_ratio: ratio(peer, 'p99'),
    }));
}
