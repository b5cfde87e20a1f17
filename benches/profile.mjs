// npm run profile: where the time of a request goes on workerd's thread, by V8's profiler, while wrk sends everyday bodies of
// 4 KiB over 16 connections: microseconds a request, of each part with all that it calls. Profiling itself costs some.
import { mkdirSync, writeFileSync } from 'node:fs';
import { buildBare, buildWorker } from '../scripts/lib/build.mjs';
import { at, endChildrenOnSignal, main, run, start, stop } from '../scripts/lib/proc.mjs';
import { setup } from '../scripts/lib/setup.mjs';
import { body } from './bodies.mjs';
import { inspect, serve, wrk } from './endtoend.mjs';

const FILE = at('build/profile/everyday-4096.json');
const NAMED = 'build/named';
/** What a part is called, by the functions that it is: the first of a stack counts. */
const PARTS = {
  scoring: /^hedgerow::ruleset::Ruleset::assess$|Ruleset>::assess$/,
  'of that, reading and matching': /^hedgerow::request::read::/,
  'of that, matching alone': /Matcher>::hits$/,
  'the line of log': /log::Line>::write$/,
  'fetch, and the request for it': /forward::Origin>::fetch$|new_with_str_and_init$/,
  'reading the body': /^__wbg_arrayBuffer/,
  'wake-ups by microtasks': /queueMicrotask/,
  'headers into Wasm': /^__wbg_from_/,
  correlators: /correlator::Correlator>::fetch/,
  'garbage collection': /^\(garbage collector\)$/,
  'V8 itself': /^\(program\)$/,
  waiting: /^\(idle\)$/,
};

async function profile() {
  await setup();
  if (Number(process.versions.node.split('.')[0]) < 22) return run(at('node_modules/.bin/node'), [at('benches/profile.mjs')]);
  // A build with a feature keeps the names of its functions.
  await buildWorker({ out: NAMED, features: ['planted-panic'] });
  await buildBare();
  mkdirSync(at('build/profile'), { recursive: true });
  writeFileSync(FILE, body('everyday', 4096));
  const origin = start(process.execPath, [at('benches/origin.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] });
  const url = String(await new Promise((told) => origin.stdout.once('data', told))).trim();
  try {
    for (const build of [NAMED, 'build/bare']) await one(build, url);
  } finally {
    await stop(origin);
  }
}

async function one(build, origin) {
  const worker = await serve(build, origin);
  const load = async (seconds) => JSON.parse((await wrk(['-t', '1', '-c', 16, '-d', `${seconds}s`, '-s', at('benches/wrk.lua'), worker.url], { BODY: FILE })).split('\n').findLast((line) => line.startsWith('{')));
  await load(3);
  const inspector = await inspect(worker);
  await inspector.ask('Profiler.enable');
  await inspector.ask('Profiler.setSamplingInterval', { interval: 200 });
  await inspector.ask('Profiler.start');
  const { requests } = await load(5);
  const { profile } = await inspector.ask('Profiler.stop');
  inspector.close();
  await worker.miniflare.dispose();
  console.log(`${build}: ${(profile.timeDeltas.reduce((sum, own) => sum + own, 0) / requests).toFixed(0)} µs a request`);
  for (const [part, us] of Object.entries(inclusive(profile))) if (us) console.log(`  ${(us / requests).toFixed(0).padStart(4)}  ${part}`);
}

/** Microseconds of each part, with what it calls. */
function inclusive({ nodes, samples, timeDeltas }) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const own = new Map();
  samples.forEach((id, i) => own.set(id, (own.get(id) ?? 0) + timeDeltas[i]));
  const sums = Object.fromEntries(Object.keys(PARTS).map((part) => [part, 0]));
  const walk = (node, inside) => {
    const name = node.callFrame.functionName.replace(/\[[0-9a-f]+\]/g, '');
    const now = new Set([...inside, ...Object.keys(PARTS).filter((part) => PARTS[part].test(name))]);
    for (const part of now) sums[part] += own.get(node.id) ?? 0;
    for (const child of node.children ?? []) walk(byId.get(child), now);
  };
  walk(nodes[0], new Set());
  return sums;
}

endChildrenOnSignal();
await main(profile);
