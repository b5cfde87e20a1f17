// The built Worker in workerd under wrk, against Workers that only pass on, one in Rust and one in JavaScript, and one
// that reads and logs before: the same origin, the same requests, in turn.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { convertV4MiniflareOptions, Miniflare } from 'miniflare';
import { at, capture, Failure, start, stop } from '../scripts/lib/proc.mjs';

const WRANGLER = readFileSync(at('wrangler.toml'), 'utf8');
const CONNECTIONS = [1, 16, 64];
const OBJECTS = Object.fromEntries(['Registry', 'Ledger', 'Correlator'].map((className) => [className.toUpperCase(), { className, useSQLite: true }]));
const SECRETS = { ACCOUNT_SECRET: 'account-secret-of-the-benchmark', TAG_SECRET: 'tag-secret-of-the-benchmark' };

/** Rows of requests a second and latencies, ours and theirs; `null` without wrk. `bodies`: [bytes, file][] */
export async function endtoend(bodies, { rounds, seconds }) {
  if (capture('which', ['wrk']) === null) {
    console.log('end to end: not measured, for wrk is missing (Debian: apt-get install wrk)');
    return null;
  }
  const origin = start(process.execPath, [at('benches/origin.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
  const url = String(await new Promise((told) => origin.stdout.once('data', told))).trim();
  const workers = [];
  try {
    const known = new Set(workerds());
    for (const [name, build] of [['ours', 'build'], ['bare-rust', 'build/bare'], ['bare-js', 'benches/bare'], ['reading-js', 'benches/reading']]) {
      const worker = { name, ...(await serve(build, url)) };
      workers.push(worker);
      for (let i = 0; i < 20; i++) await (await fetch(`${worker.url}/v1/chat/completions`, { method: 'POST', body: readFileSync(bodies[0][1]), headers: { authorization: 'Bearer sk-bench', 'content-type': 'application/json' } })).text();
      const pid = workerds().find((pid) => !known.has(pid));
      known.add(pid);
      worker.memory = pid && { process: resident(pid), heap: await heap(worker) };
    }
    const rows = [];
    for (const [bytes, file] of bodies) {
      for (const connections of CONNECTIONS) rows.push(...rowsOf({ bytes, connections, samples: await sampled(workers, file, { connections, rounds, seconds }) }));
    }
    return { rows, memory: workers.every(({ memory }) => memory) ? Object.fromEntries(workers.map(({ name, memory }) => [name, memory])) : null };
  } finally {
    for (const { miniflare } of workers) await miniflare.dispose();
    await stop(origin);
  }
}

/** The processes of workerd on this machine. */
const workerds = () => (capture('pgrep', ['-x', 'workerd']) ?? '').split('\n').filter(Boolean);

/** Bytes of memory that a process has, what it shares with others counted in part. */
const resident = (pid) => 1024 * Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);

/** Bytes that an isolate's heap has, as its inspector says. */
async function heap(worker) {
  const inspector = await inspect(worker);
  const { usedSize, backingStorageSize } = await inspector.ask('Runtime.getHeapUsage');
  inspector.close();
  return usedSize + backingStorageSize;
}

/** An isolate's inspector, which answers one question after the other. */
export async function inspect({ miniflare }) {
  const { host } = await miniflare.getInspectorURL();
  const targets = await (await fetch(`http://${host}/json`)).json();
  const socket = new WebSocket(targets.find(({ id }) => id === 'core:user:bench').webSocketDebuggerUrl);
  await new Promise((opened) => socket.addEventListener('open', opened));
  const waiting = new Map();
  socket.addEventListener('message', ({ data }) => {
    const { id, result } = JSON.parse(data);
    waiting.get(id)?.(result);
  });
  const ask = (method, params = {}) =>
    new Promise((told) => {
      const id = waiting.size + 1;
      waiting.set(id, told);
      socket.send(JSON.stringify({ id, method, params }));
    });
  return { ask, close: () => socket.close() };
}

/** One Worker in a workerd of its own, reached without Miniflare in between. */
export async function serve(build, origin) {
  const root = at(build);
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      name: 'bench',
      modulesRoot: root,
      modules: [
        { type: 'ESModule', path: path.join(root, 'index.js') },
        ...readdirSync(root).filter((name) => name.endsWith('.wasm')).map((name) => ({ type: 'CompiledWasm', path: path.join(root, name) })),
      ],
      compatibilityDate: /^compatibility_date = "(.+)"/m.exec(WRANGLER)[1],
      compatibilityFlags: JSON.parse(/^compatibility_flags = (\[.+\])/m.exec(WRANGLER)[1]),
      bindings: { ORIGIN: origin, ...SECRETS },
      ...(/^build(\/named)?$/.test(build) && { kvNamespaces: { RULES: 'rules' }, durableObjects: OBJECTS }),
      cf: false,
      inspectorPort: 0,
      unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
      // Log lines are written; nobody reads them.
      handleStructuredLogs: () => {},
    }),
  );
  await miniflare.ready;
  return { miniflare, url: String(await miniflare.unsafeGetDirectURL('bench')).replace(/\/$/, '') };
}

/** Samples of each Worker, taken in turn after a warm-up, so that all see the same machine. */
async function sampled(workers, file, { connections, rounds, seconds }) {
  const samples = Object.fromEntries(workers.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const { name, url } of workers) {
      const output = await wrk(['-t', '1', '-c', connections, '-d', `${seconds}s`, '-s', at('benches/wrk.lua'), url], { BODY: file });
      const sample = JSON.parse(output.split('\n').findLast((line) => line.startsWith('{')) ?? 'null');
      if (!sample || sample.errors || !sample.requests) throw new Failure(`wrk against ${name} with ${connections} connections: ${output}`);
      if (round >= 0) samples[name].push({ ...sample, mean: sample.us / sample.requests });
    }
    process.stdout.write('.');
  }
  return samples;
}

/** What wrk prints; meanwhile this process goes on reading what the Workers log. */
export async function wrk(args, env) {
  const child = start('wrk', args.map(String), { env });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => output.push(data));
  await new Promise((ended) => child.once('close', ended));
  return Buffer.concat(output).toString();
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

/** A row for each peer: microseconds a request, and the ratios of those and of the latencies. */
function rowsOf({ bytes, connections, samples }) {
  const of = (name, value) => Math.round(median(samples[name].map((sample) => sample[value])));
  const ratio = (name, value) => Number(median(samples.ours.map((sample, round) => sample[value] / samples[name][round][value])).toFixed(3));
  return Object.keys(samples).filter((name) => name !== 'ours').map((peer) => ({
    phase: 'endtoend', host: 'workerd', bytes, text: 'everyday', connections,
    ours_us: of('ours', 'mean'), peer, peer_us: of(peer, 'mean'), ratio: ratio(peer, 'mean'),
    p50_us: of('ours', 'p50'), p50_ratio: ratio(peer, 'p50'), p99_us: of('ours', 'p99'), p99_ratio: ratio(peer, 'p99'),
  }));
}
