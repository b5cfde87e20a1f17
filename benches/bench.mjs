// npm run bench: what scoring costs, by phase and end to end, against others doing the same job. `phases.mjs` measures in
// Wasm, `endtoend.mjs` in workerd, `report.mjs` writes. Writes docs/benchmarks.json and docs/benchmarks.md; `--quick` takes
// fewer samples and writes nothing.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { buildBare, buildPlayground, buildWorker } from '../scripts/lib/build.mjs';
import { at, capture, endChildrenOnSignal, Failure, main, run, toolEnv } from '../scripts/lib/proc.mjs';
import { setup } from '../scripts/lib/setup.mjs';
import { body, literals, ruleFiles } from './bodies.mjs';
import { endtoend } from './endtoend.mjs';
import { COUNTS, inWasm, median, round } from './phases.mjs';
import { kib, markdown, tell } from './report.mjs';

const QUICK = process.argv.includes('--quick');
/** Bodies that are measured natively, too. */
const TEXTS = ['english', 'code', 'everyday'];
const SIZES = [4 << 10, 64 << 10, 1 << 20];
const ROUNDS = QUICK ? 3 : 9;
const SAMPLE_MS = QUICK ? 10 : 40;
const DIR = at('build/bench');
const MODULE = 'build/playground-with-peers';
const SCENARIO = 'scenarios/campaign-a.toml';

async function bench() {
  await setup();
  // The measuring process runs in the Node that wrangler runs in.
  if (Number(process.versions.node.split('.')[0]) < 22) {
    return run(at('node_modules/.bin/node'), [at('benches/bench.mjs'), ...process.argv.slice(2)]);
  }
  await buildPlayground({ out: MODULE, features: ['peers'] });
  await buildWorker();
  await buildBare();
  await writeInputs();
  const bundles = Object.fromEntries([...COUNTS, 'shipped'].map((name) => [name, readFileSync(bundleFile(name), 'utf8')]));
  const wasm = await inWasm({ directory: MODULE, bundles, scratch: DIR, rounds: ROUNDS, sampleMs: SAMPLE_MS });
  const native = natively(wasm.rows);
  const sigma = rsigma(native.measured);
  const ends = (await endtoend([4096, 65536].map((bytes) => [bytes, bodyFile('everyday', bytes)]), QUICK ? { rounds: 1, seconds: 1 } : { rounds: 5, seconds: 2 })) ?? { rows: [], memory: null };
  const result = {
    rows: [...wasm.rows, ...native.rows, ...wasm.scans, ...wasm.shipped, ...wasm.worst, ...sigma, ...ends.rows],
    memory: { ...ends.memory, wasm: linear() },
    reload: wasm.reload, indicators: wasm.indicators, flood: native.flood,
    online: await online(), replay: replay(), simulate: simulate(),
    wasm: sizes(), startup_ms: startup(), playground_instantiate_ms: wasm.instantiateMs,
    about: { ...about(), rounds: ROUNDS, sample_ms: SAMPLE_MS },
  };
  console.log(tell(result));
  keep(result);
  if (QUICK) return;
  writeFileSync(at('docs/benchmarks.json'), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(at('docs/benchmarks.md'), markdown(result));
  console.log('written: docs/benchmarks.json, docs/benchmarks.md');
}

/** What is promised, and whether it holds: each row says so in words. */
function keep({ rows, indicators, flood }) {
  const wholes = rows.filter(({ phase, host, peer }) => phase === 'whole' && host === 'wasm' && peer);
  const sketch = ({ bytes, text }) => rows.find((row) => row.phase === 'sketch' && row.host === 'wasm' && row.bytes === bytes && row.text === text).ours_us;
  const promises = [
    // Larger bodies miss their target, which the page says; this is what they may not get worse than.
    ...wholes.filter(({ rules, bytes }) => rules && bytes >= 4096).map((row) => ({ ...row, most: row.bytes === 4096 ? 0.25 : 0.6 })).map(({ bytes, text, ratio, most }) => [ratio <= most, `the whole by the shipped rules, at ${kib(bytes)} of ${text}: ratio ${ratio}, promised ${most}`]),
    ...wholes.filter((row) => row.literals === 500 && row.bytes >= 4096 && ['english', 'code'].includes(row.text)).map((row) => [row.ours_us + sketch(row) <= row.peer_us / 2, `the whole and the sketch, at ${kib(row.bytes)} of ${row.text}: ${round(row.ours_us + sketch(row), 2)} µs, the peer ${row.peer_us}`]),
    [Math.max(indicators.load_ms, indicators.cold_ms) <= 20, `${indicators.count} indicators take ${indicators.load_ms} ms, the first time ${indicators.cold_ms} ms, promised 20`],
    [flood.bytes <= flood.limit, `the correlator takes ${flood.bytes} bytes of ${flood.limit}`],
    [flood.found === flood.shared, `of ${flood.shared} templates in a flood ${flood.found} are found`],
  ];
  for (const [, words] of promises.filter(([holds]) => !holds)) {
    console.error(`not kept: ${words}`);
    process.exitCode = 1;
  }
}

/** Bodies and bundles as files, for the native run to read the very same bytes. */
async function writeInputs() {
  rmSync(DIR, { recursive: true, force: true });
  mkdirSync(DIR, { recursive: true });
  for (const text of TEXTS) for (const bytes of SIZES) writeFileSync(bodyFile(text, bytes), body(text, bytes));
  const build = (rules, name) => run('cargo', ['run', '--locked', '--release', '--quiet', '--bin', 'hedgerow', '--', 'build', rules, '-o', bundleFile(name)], { label: `hedgerow build: ${name} ${name > 0 ? 'literals' : 'rules'}`, quiet: true });
  for (const count of COUNTS) {
    const rules = path.join(DIR, 'rules', String(count));
    for (const [file, text] of ruleFiles(literals(count))) {
      mkdirSync(path.dirname(path.join(rules, file)), { recursive: true });
      writeFileSync(path.join(rules, file), text);
    }
    if (existsSync(at('rules/policy.toml'))) cpSync(at('rules/policy.toml'), path.join(rules, 'policy.toml'));
    await build(rules, count);
  }
  await build(at('rules'), 'shipped');
}

const bodyFile = (text, bytes) => path.join(DIR, `${text}-${bytes}.json`);
const bundleFile = (name) => path.join(DIR, name === 500 ? 'bundle.json' : `${name}.json`);

/** Bytes of Wasm memory with some bundle, each in a process of its own, for memory never shrinks: taken over; then 100 bodies of 4 KiB scored. */
function linear() {
  const measure = (name) => JSON.parse(capture(process.execPath, [at('benches/memory.mjs'), MODULE, bundleFile(name), bodyFile('everyday', 4096)]));
  return { shipped: measure('shipped'), 5000: measure(5000) };
}

/** `cargo bench --bench native -- --json` measures the files in HEDGEROW_BENCH_DIR; the peer is this run's. */
function natively(rows) {
  console.log('▸ native');
  const output = capture('cargo', ['bench', '--locked', '--quiet', '--bench', 'native', '--', '--json'], { env: toolEnv({ HEDGEROW_BENCH_DIR: DIR }), stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 64 << 20 });
  const all = (output ?? '').split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const measured = all.filter(({ phase }) => phase !== 'flood');
  const flood = all.find(({ phase }) => phase === 'flood');
  if (!flood) throw new Failure('`cargo bench --bench native -- --json` printed no rows');
  const natives = measured.map(({ phase, bytes, text, literals, us }) => {
    const peer_us = rows.find((row) => row.phase === phase && row.bytes === bytes && row.text === text && row.literals === literals)?.peer_us ?? null;
    return { phase, host: 'native', bytes, text, literals, ours_us: round(us, 2), peer: 'javascript', peer_us, ratio: peer_us && round(us / peer_us, 3) };
  });
  return { rows: natives, measured, flood };
}

/** The same signatures on the same text by rsigma, natively. It has to find as many as we do. */
function rsigma(measured) {
  const output = capture('cargo', ['run', '--locked', '--release', '--quiet', '--manifest-path', at('benches/rsigma/Cargo.toml')], { env: toolEnv({ HEDGEROW_BENCH_DIR: DIR }), stdio: ['ignore', 'pipe', 'inherit'] });
  if (!output) throw new Failure('benches/rsigma printed no rows');
  return output.split('\n').filter(Boolean).map((line) => JSON.parse(line)).map(({ text, bytes, hits, us }) => {
    const ours = measured.find((row) => row.phase === 'match' && row.text === text && row.bytes === bytes);
    if (ours.hits !== hits) throw new Failure(`rsigma finds ${hits} signatures in ${bytes} bytes of ${text}, we find ${ours.hits}`);
    return { phase: 'match', host: 'native', bytes, text, literals: 500, ours_us: round(ours.us, 2), peer: 'rsigma-eval', peer_us: round(us, 2), ratio: round(ours.us / us, 4) };
  });
}

/** What correlation costs the built Worker and how soon it tells: as `tests/edge/correlate.spec.ts` measures it. */
async function online() {
  const file = at('build/online.json');
  rmSync(file, { force: true });
  await run(at('node_modules/.bin/node'), [at('node_modules/vitest/vitest.mjs'), 'run', 'tests/edge/correlate.spec.ts'], { label: 'correlators in workerd', quiet: true });
  return Object.values(JSON.parse(readFileSync(file, 'utf8')));
}

/** How fast the command line plays a scenario, with correlations and without: the whole process. */
function simulate() {
  const seconds = (...more) => median(Array.from({ length: QUICK ? 1 : 5 }, () => {
    const began = performance.now();
    const output = capture(at('target/release/hedgerow'), ['--format', 'json', 'simulate', at(SCENARIO), '--scale', '0.004', ...more], { maxBuffer: 64 << 20 });
    return (performance.now() - began) / 1000 / JSON.parse(output ?? '{}').requests;
  }));
  return { scenario: SCENARIO, requests_per_s: Math.round(1 / seconds()), alone_per_s: Math.round(1 / seconds('--no-correlate')) };
}

/** How fast the command line replays chats of about 2 KiB by the shipped rules: the whole process, start and files included. */
function replay() {
  const bodies = Array.from({ length: 100 }, (_, i) => body(i % 4 === 3 ? 'code' : 'english', 2000 + i));
  const line = (text) => `${JSON.stringify({ method: 'POST', path: '/v1/chat/completions', headers: { 'content-type': 'application/json', 'user-agent': 'bench' }, body: text })}\n`;
  const file = path.join(DIR, 'replay.ndjson');
  const repeats = QUICK ? 20 : 400;
  writeFileSync(file, bodies.map((bytes) => line(bytes.toString())).join('').repeat(repeats));
  const seconds = median(Array.from({ length: QUICK ? 1 : 5 }, () => {
    const began = performance.now();
    const output = capture(at('target/release/hedgerow'), ['--format', 'json', 'replay', file], { maxBuffer: 64 << 20 });
    const { requests } = JSON.parse(output ?? '{}');
    if (requests !== bodies.length * repeats) throw new Failure(`hedgerow replay read ${requests} of ${bodies.length * repeats} requests`);
    return (performance.now() - began) / 1000;
  }));
  return { requests: bodies.length * repeats, body_bytes: 2048, requests_per_s: Math.round((bodies.length * repeats) / seconds) };
}

function sizes() {
  const files = readdirSync(at('build')).filter((file) => file.endsWith('.wasm')).map((file) => readFileSync(at('build', file)));
  return { raw: files.reduce((sum, { length }) => sum + length, 0), gzip: files.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0) };
}

/** Active time at start-up as `wrangler check startup` profiles it in the local workerd: the median of five runs. */
function startup() {
  const active = Array.from({ length: QUICK ? 1 : 5 }, () => {
    const output = capture('wrangler', ['check', 'startup', '--outfile', path.join(DIR, 'startup.cpuprofile')], { env: toolEnv({ CI: '1', NO_COLOR: '1' }) });
    return Number(/Active: ([\d.]+) ms/.exec(output ?? '')?.[1] ?? NaN);
  }).filter(Number.isFinite);
  return active.length ? median(active) : null;
}

function about() {
  const version = (name) => JSON.parse(readFileSync(at('node_modules', name, 'package.json'), 'utf8')).version;
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: `${capture('git', ['rev-parse', '--short=12', 'HEAD']) ?? 'none'}${capture('git', ['status', '--porcelain', '--', 'src', 'rules', 'Cargo.lock']) ? ' with changes' : ''}`,
    cpu: `${cpus()[0].model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    node: process.versions.node,
    v8: process.versions.v8,
    workerd: version('workerd'),
    rustc: capture('rustc', ['--version']),
  };
}

endChildrenOnSignal();
await main(bench);
