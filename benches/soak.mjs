// Measures memory under sustained load: many accounts send requests at a constant rate, each with a
// prompt of random words and one of 500 system prompts. The Worker and the Durable Objects share
// one isolate here, which is the worst case on Cloudflare's platform. Prints a row every ten
// seconds, and finally a row after garbage collection.
//
// Usage: node benches/soak.mjs [--worker build] [--seconds 200] [--rate 900] [--accounts 200000]
//        [--snapshot FILE]
import { createWriteStream, readFileSync } from 'node:fs';
import http from 'node:http';
import { parseArgs } from 'node:util';
import { stop, tryCapture } from '../scripts/lib/proc.mjs';
import { inspect, serve, startOrigin } from './endtoend.mjs';

const { values: options } = parseArgs({
  options: {
    worker: { type: 'string', default: 'build' },
    entry: { type: 'string', default: 'index.js' },
    seconds: { type: 'string', default: '200' },
    rate: { type: 'string', default: '900' },
    accounts: { type: 'string', default: '200000' },
    snapshot: { type: 'string' },
  },
});
const MIB = 1024 * 1024;
const WORDS = 120;
const SYSTEM_PROMPTS = 500;
/**
 * Maximum number of unanswered requests. At this limit, the generator skips requests instead of
 * queueing them.
 */
const MAX_PENDING = 256;
const TICK_MS = 10;
const hex = (number) => number.toString(16);
const mib = (bytes) => (bytes / MIB).toFixed(1);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const agent = new http.Agent({ keepAlive: true, maxSockets: 128 });

const origin = await startOrigin();
const worker = await serve(options.worker, origin.url, options.entry);
const pid = tryCapture('pgrep', ['-n', '-x', 'workerd']);
let isolate = await inspect(worker);
const sent = { requests: 0, errors: 0, pending: 0, skipped: 0 };
try {
  console.log(
    'seconds  requests  errors  process MiB  V8 used MiB  V8 total MiB  buffers MiB  Wasm MiB',
  );
  await printRow(0);
  for (let elapsed = 10; elapsed <= Number(options.seconds); elapsed += 10) {
    await load(10);
    await printRow(elapsed);
  }
  console.log(`${sent.skipped} requests were not sent: ${MAX_PENDING} were under way.`);
  await pause(40_000);
  // Reconnects, because the inspector closes idle connections.
  isolate.close();
  isolate = await inspect(worker);
  await printRow('idle');
  // Takes a snapshot because V8 collects garbage before it. workerd never answers the inspector's
  // command `collectGarbage`.
  await takeSnapshot(options.snapshot ?? '/dev/null');
  await printRow('live');
  printMappings();
} finally {
  isolate.close();
  agent.destroy();
  await worker.miniflare.dispose();
  await stop(origin.process);
}

/** Sends requests at the rate for some seconds. */
async function load(seconds) {
  const begin = performance.now();
  const total = Number(options.rate) * seconds;
  for (let due = 0; due < total;) {
    const now = Math.min(total, ((performance.now() - begin) / 1000) * Number(options.rate));
    for (; due < now; due++) {
      if (sent.pending < MAX_PENDING) send();
      else sent.skipped++;
    }
    await pause(TICK_MS);
  }
}

/** Sends one request from a random account. */
function send() {
  const account = Math.floor(Math.random() * Number(options.accounts));
  const system = `You are assistant ${account % SYSTEM_PROMPTS} of a shop and answer briefly.`;
  const body = JSON.stringify({
    model: 'gpt-5',
    messages: [
      { role: 'system', content: system },
      { role: 'user', content: randomWords() },
    ],
  });
  sent.requests++;
  sent.pending++;
  const request = http.request(
    `${worker.url}/v1/chat/completions`,
    {
      agent,
      method: 'POST',
      headers: {
        authorization: `Bearer sk-soak-${account}`,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'cf-connecting-ip': `2001:db8::${hex(account >> 16)}:${hex(account & 0xffff)}`,
        'user-agent': 'OpenAI/Python 2.8.0',
      },
    },
    (response) => {
      if (response.statusCode !== 200) sent.errors++;
      response.resume().once('close', () => sent.pending--);
    },
  );
  request.once('error', () => {
    sent.errors++;
    sent.pending--;
  });
  request.end(body);
}

function randomWords() {
  const words = [];
  for (let i = 0; i < WORDS; i++) words.push(Math.floor(Math.random() * 1e6).toString(36));
  return words.join(' ');
}

/** Prints the memory of the process, of V8's heap, and of Wasm. */
async function printRow(elapsed) {
  const heap = await isolate.call('Runtime.getHeapUsage');
  const health = await (await fetch(`${worker.url}/_hedgerow/health`)).json().catch(() => ({}));
  const cells = [
    elapsed,
    sent.requests,
    sent.errors,
    mib(processBytes()),
    mib(heap.usedSize),
    mib(heap.totalSize),
    mib(heap.backingStorageSize),
    mib(health.memory_bytes ?? 0),
  ];
  const widths = [7, 8, 6, 11, 11, 12, 11, 8];
  console.log(cells.map((cell, column) => String(cell).padStart(widths[column])).join('  '));
}

/** Returns the proportional set size of the process in bytes. */
function processBytes() {
  return 1024 * Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);
}

/** Prints the process's largest mappings. */
function printMappings() {
  const mappings = readFileSync(`/proc/${pid}/smaps`, 'utf8')
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .map((text) => ({
      name: text.split('\n')[0],
      bytes: 1024 * Number(/^Rss: +(\d+)/m.exec(text)?.[1] ?? 0),
    }))
    .toSorted((a, b) => b.bytes - a.bytes);
  console.log('\nLargest mappings, resident MiB:');
  for (const { name, bytes } of mappings.slice(0, 15))
    console.log(`${mib(bytes).padStart(8)}  ${name}`);
}

/** Writes a heap snapshot, which Chromium's developer tools open. */
async function takeSnapshot(file) {
  const output = createWriteStream(file);
  isolate.onEvent('HeapProfiler.addHeapSnapshotChunk', ({ chunk }) => output.write(chunk));
  await isolate.call('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
  await new Promise((resolve) => output.end(resolve));
}
