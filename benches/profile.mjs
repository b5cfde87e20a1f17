// npm run profile: measures the time of a request on workerd's thread with V8's profiler, while wrk
// sends bodies of 4 KiB of everyday prose over 16 connections. Prints microseconds per request for
// each part, including the functions that the part calls. Profiling adds some time.
import { mkdirSync, writeFileSync } from 'node:fs';
import { buildBaseline, buildWorker } from '../scripts/lib/build.mjs';
import { endChildrenOnSignal, fromRoot, main, run, stop } from '../scripts/lib/proc.mjs';
import { setup } from '../scripts/lib/setup.mjs';
import { body } from './bodies.mjs';
import { inspect, serve, startOrigin, wrk } from './endtoend.mjs';

const FILE = fromRoot('build/profile/everyday-4096.json');
const NAMED = 'build/named';
const BASELINE = 'build/baseline-rust';
/** The parts of a request, by the names of their outermost functions. */
const PARTS = {
  scoring: /\bRuleset>?::assess$/,
  'of scoring: reading and matching': /^hedgerow_core::extract::(\w+::)*for_each_request::/,
  'of scoring: matching': /Matcher>::hits$/,
  'log line': /log::DecisionLine>::write$/,
  'fetch and its request': /origin::Origin>::fetch$|new_with_str_and_init$/,
  'reading the body': /^__wbg_arrayBuffer/,
  'wake-ups by microtasks': /queueMicrotask/,
  'copying headers into Wasm': /^__wbg_from_/,
  correlators: /correlator_do::Correlator>::fetch/,
  'garbage collection': /^\(garbage collector\)$/,
  'V8 itself': /^\(program\)$/,
  idle: /^\(idle\)$/,
};

async function profile() {
  await setup();
  if (Number(process.versions.node.split('.')[0]) < 22)
    return run(fromRoot('node_modules/.bin/node'), [fromRoot('benches/profile.mjs')]);
  await buildWorker({ out: NAMED, profile: 'release', keepNames: true });
  await buildBaseline();
  mkdirSync(fromRoot('build/profile'), { recursive: true });
  writeFileSync(FILE, body('everyday', 4096));
  const origin = await startOrigin();
  try {
    for (const directory of [NAMED, BASELINE]) await profileWorker(directory, origin.url);
  } finally {
    await stop(origin.process);
  }
}

/** Profiles one Worker for five seconds after a warm-up, and prints the times. */
async function profileWorker(directory, origin) {
  const worker = await serve(directory, origin);
  const load = async (seconds) =>
    JSON.parse(
      (
        await wrk(
          ['-t', '1', '-c', 16, '-d', `${seconds}s`, '-s', fromRoot('benches/wrk.lua'), worker.url],
          { BODY: FILE },
        )
      )
        .split('\n')
        .findLast((line) => line.startsWith('{')),
    );
  await load(3);
  const inspector = await inspect(worker);
  await inspector.call('Profiler.enable');
  await inspector.call('Profiler.setSamplingInterval', { interval: 200 });
  await inspector.call('Profiler.start');
  const { requests } = await load(5);
  const { profile } = await inspector.call('Profiler.stop');
  inspector.close();
  await worker.miniflare.dispose();
  const us = profile.timeDeltas.reduce((sum, delta) => sum + delta, 0);
  console.log(`${directory}: ${(us / requests).toFixed(0)} µs per request`);
  for (const [part, partUs] of Object.entries(inclusiveTimes(profile)))
    if (partUs) console.log(`  ${(partUs / requests).toFixed(0).padStart(4)}  ${part}`);
}

/** Returns the microseconds of each part, including the functions that the part calls. */
function inclusiveTimes({ nodes, samples, timeDeltas }) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const selfTimes = new Map();
  samples.forEach((id, i) => selfTimes.set(id, (selfTimes.get(id) ?? 0) + timeDeltas[i]));
  const sums = Object.fromEntries(Object.keys(PARTS).map((part) => [part, 0]));
  const walk = (node, enclosing) => {
    // Removes the hashes of crates from symbol names, such as `[8c1f]` in `core[8c1f]::fmt`.
    const name = node.callFrame.functionName.replace(/\[[0-9a-f]+\]/g, '');
    const parts = new Set([
      ...enclosing,
      ...Object.keys(PARTS).filter((part) => PARTS[part].test(name)),
    ]);
    for (const part of parts) sums[part] += selfTimes.get(node.id) ?? 0;
    for (const child of node.children ?? []) walk(byId.get(child), parts);
  };
  walk(nodes[0], new Set());
  return sums;
}

endChildrenOnSignal();
await main(profile);
