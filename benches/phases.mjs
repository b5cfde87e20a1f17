// The measurements of `npm run bench` that run Wasm in Node: the phases of a request, whole
// requests by the shipped rules, the literal search, and loading rules and indicators. Hedgerow and
// its peer run in turn, so that load on the machine affects both alike.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, tryCapture } from '../scripts/lib/proc.mjs';
import { body, chunksOfTen, LITERALS, literals, text as plainText, worstCases } from './bodies.mjs';
import { ShippedJsPeer } from './js-peer-shipped.mjs';
import { JsPeer } from './js-peer.mjs';

export const SIZES = [1, 4, 32, 64, 256, 1024].map((kib) => kib << 10);
export const COUNTS = [50, 500, 5000];
const TEXTS = ['english', 'code', 'chinese', 'base64', 'near misses'];
const PHASES = ['extract', 'match', 'sketch', 'score', 'total'];

let rounds;
let sampleMs;
/**
 * Sum of all results. Because results are used, the engine cannot optimise the measured work away.
 */
let sink = 0;

/**
 * Measures everything that runs in Wasm, and returns the rows of the report.
 *
 * `bundles`: texts of bundles; a key is the number of literals of a generated bundle, or `shipped`.
 * `directory`: location of the Wasm module. `scratch`: directory for temporary files. `settings`:
 * `rounds`, the number of samples, and `sampleMs`, the milliseconds of a sample.
 */
export async function inWasm({ directory, bundles, scratch, ...settings }) {
  ({ rounds, sampleMs } = settings);
  const wasm = readFileSync(fromRoot(directory, 'hedgerow_wasm_bg.wasm'));
  const began = performance.now();
  const module = await import(fromRoot(directory, 'hedgerow_wasm.js'));
  module.initSync({ module: wasm });
  new module.PhaseBench(bundles[500]).free();
  const instantiateMs = round(performance.now() - began, 1);
  const measured = {
    rows: COUNTS.flatMap((count) => byGeneratedRules(module, bundles[count], count)),
    shipped: byShippedRules(module, bundles.shipped),
    worst: measureWorstCases(module, bundles.shipped),
    scans: scans(module),
    reload: reload(module, bundles.shipped),
    indicators: indicators(module, directory, scratch),
    instantiateMs,
  };
  if (!Number.isFinite(sink))
    throw new Failure('the sum of all results is not a number: a phase measured nothing');
  return measured;
}

/**
 * Measures each phase by generated rules. Rules with 500 literals are measured on texts of all
 * kinds and sizes, rules with 50 and 5,000 literals on a few.
 */
function byGeneratedRules(module, bundle, count) {
  const isMain = count === 500;
  const ours = new module.PhaseBench(bundle);
  const peer = new JsPeer(chunksOfTen(literals(count)).map((chunk, i) => [`bench_${i}`, 3, chunk]));
  const rows = [];
  for (const text of isMain ? TEXTS : TEXTS.slice(0, 2)) {
    for (const bytes of isMain ? SIZES : [4 << 10, 64 << 10]) {
      const input = body(text, bytes);
      ours.load(input);
      peer.load(input);
      peer.runAll();
      for (const phase of isMain ? PHASES : ['match', 'total']) {
        // The total includes one copy into Wasm memory per call, as in the Worker.
        const runOurs =
          phase === 'total'
            ? (n) => {
                for (let i = 0; i < n; i++) sink += Number(ours.run_all_with_copy(input));
              }
            : (n) => {
                sink += Number(ours[phase](n));
              };
        const runPeer =
          phase === 'total'
            ? (n) => {
                for (let i = 0; i < n; i++) sink += peer.runAll();
              }
            : (n) => {
                for (let i = 0; i < n; i++) sink += peer[phase]();
              };
        // The peer does not implement the phase `sketch`.
        const [ours_us, peer_us = null] = interleaved(
          ...(phase === 'sketch' ? [runOurs] : [runOurs, runPeer]),
        );
        rows.push({
          phase,
          host: 'wasm',
          bytes,
          text,
          literals: count,
          ours_us,
          peer: 'javascript',
          peer_us,
          ratio: peer_us && round(ours_us / peer_us, 3),
        });
        process.stdout.write('.');
      }
    }
  }
  process.stdout.write('\n');
  ours.free();
  return rows;
}

/**
 * Measures whole requests by the shipped rules, in two ways. Hedgerow and the peer score one body
 * repeatedly, so that the processor predicts its branches. Hedgerow also scores up to a hundred
 * different bodies in turn, as in real traffic. A row states whether Hedgerow and the peer find the
 * same signatures.
 */
function byShippedRules(module, bundle) {
  const ours = new module.PhaseBench(bundle);
  const peer = new ShippedJsPeer(JSON.parse(bundle));
  const rows = [];
  for (const text of ['everyday', ...TEXTS]) {
    for (const bytes of SIZES) {
      const repeated = body(text, bytes);
      const others = Array.from({ length: bytes > 1 << 16 ? 10 : 100 }, (_, i) =>
        body(text, bytes - 1 - i),
      );
      let turn = 0;
      const [ours_us, in_turn_us, peer_us] = interleaved(
        (n) => {
          for (let i = 0; i < n; i++) sink += ours.run_all_with_copy(repeated);
        },
        (n) => {
          for (let i = 0; i < n; i++)
            sink += ours.run_all_with_copy(others[turn++ % others.length]);
        },
        (n) => {
          for (let i = 0; i < n; i++) sink += peer.runAll(repeated).score;
        },
      );
      const agrees = sameHits(module, bundle, peer, repeated);
      rows.push({
        phase: 'total',
        host: 'wasm',
        bytes,
        text,
        rules: 'shipped',
        ours_us,
        in_turn_us,
        peer: 'javascript',
        peer_us,
        ratio: round(ours_us / peer_us, 3),
        agrees,
      });
      process.stdout.write('.');
    }
  }
  process.stdout.write('\n');
  ours.free();
  return rows;
}

/** Returns whether the peer finds the same signatures. */
function sameHits(module, bundle, peer, bytes) {
  const request = {
    method: 'POST',
    path: '/v1/chat/completions',
    headers: { 'content-type': 'application/json' },
    body: bytes.toString(),
  };
  const filter = new module.Filter(bundle);
  const { decision } = JSON.parse(filter.score(JSON.stringify(request), 1_790_000_000));
  filter.free();
  const ours = [...decision.hits.map(({ name }) => name), ...decision.shadow_hits].sort();
  // A decision of Hedgerow does not list signatures of weight zero.
  const theirs = peer
    .runAll(bytes)
    .hits.filter(({ weight }) => weight !== 0)
    .map(({ name }) => name)
    .sort();
  return ours.join() === theirs.join();
}

/**
 * Measures scoring of expensive bodies by the shipped rules. As in the Worker, only the scan window
 * is scored.
 */
function measureWorstCases(module, bundle) {
  const ours = new module.PhaseBench(bundle);
  const { window } = JSON.parse(bundle).policy.scan;
  const rows = Object.entries(worstCases(literals(500))).map(([text, bytes]) => {
    const [ours_us] = interleaved((n) => {
      for (let i = 0; i < n; i++) sink += ours.run_all_with_copy(bytes.subarray(0, window));
    });
    process.stdout.write('.');
    return {
      phase: 'total',
      host: 'wasm',
      bytes: bytes.length,
      scored: Math.min(window, bytes.length),
      text,
      rules: 'shipped',
      ours_us,
      peer: null,
      peer_us: null,
      ratio: null,
    };
  });
  process.stdout.write('\n');
  ours.free();
  return rows;
}

/**
 * Measures only the literal search. Compares it with the DFA of the crate aho-corasick in the same
 * Wasm module, and with a loop that adds up the bytes.
 */
function scans(module) {
  const rows = [];
  const withShortest = LITERALS.slice(0, 495).concat(['cot:', 'json', 'rank', 'gold', 'bleu']);
  for (const [count, patterns] of [
    ...COUNTS.map((count) => [count, literals(count)]),
    ['495, 5 of four bytes', withShortest],
  ]) {
    const search = new module.LiteralSearch(patterns.join('\n'));
    for (const text of TEXTS) {
      for (const bytes of [64 << 10, 1 << 20]) {
        const input = plainText(text, bytes, patterns);
        search.load(input);
        const [found, expected] = [search.scan(1), search.scan_dfa(1)];
        if (found !== expected)
          throw new Failure(
            `the scan finds ${found} literals in ${text}: expected ${expected}, as aho-corasick`,
          );
        const [ours_us, dfa_us, sum_us] = interleaved(
          ...['scan', 'scan_dfa', 'scan_baseline'].map((method) => (n) => {
            sink += search[method](n);
          }),
        );
        const row = {
          phase: 'scan',
          host: 'wasm',
          bytes: input.length,
          text,
          literals: count,
          ours_us,
        };
        rows.push(
          { ...row, peer: 'aho-corasick', peer_us: dfa_us, ratio: round(ours_us / dfa_us, 3) },
          { ...row, peer: 'byte sum', peer_us: sum_us, ratio: round(ours_us / sum_us, 3) },
        );
        process.stdout.write('.');
      }
    }
    search.free();
  }
  process.stdout.write('\n');
  return rows;
}

/**
 * Measures loading a release in an isolate: parses and compiles the shipped bundle, without and
 * with its regexes. Also measures building the search tables, because a bundle could contain built
 * tables instead.
 */
function reload(module, bundle) {
  const bytes = Buffer.from(bundle);
  const load = (check) => (n) => {
    for (let i = 0; i < n; i++) sink += module.reload(bytes, check);
  };
  const tables = new module.LiteralSearch([...literalsOf(JSON.parse(bundle))].join('\n'));
  const [load_us, check_us, parse_us, tables_us] = interleaved(
    load(false),
    load(true),
    (n) => {
      for (let i = 0; i < n; i++) sink += Object.keys(JSON.parse(bundle)).length;
    },
    (n) => {
      sink += tables.build(n);
    },
  );
  const ms = (us) => round(us / 1000, 2);
  return {
    bytes: bytes.length,
    signatures: module.reload(bytes, false),
    load_ms: ms(load_us),
    check_ms: ms(check_us),
    json_parse_ms: ms(parse_us),
    tables_ms: ms(tables_us),
    tables_bytes: tables.heap_bytes(),
  };
}

/** Returns the literals of a bundle, and a few strings that are compared with headers. */
function literalsOf(value, strings = new Set()) {
  if (Array.isArray(value)) value.forEach((item) => literalsOf(item, strings));
  else if (value && typeof value === 'object') {
    if (typeof value.string?.value === 'string') strings.add(value.string.value);
    for (const literal of value.alternatives ?? []) strings.add(literal);
    Object.values(value).forEach((item) => literalsOf(item, strings));
  }
  return strings;
}

/** Measures loading 100,000 indicators in an isolate, including the copy into Wasm memory. */
function indicators(module, directory, scratch) {
  const bytes = module.synthetic_indicators(100_000);
  const count = module.parse_indicators(bytes);
  const [load_us] = interleaved((n) => {
    for (let i = 0; i < n; i++) sink += module.parse_indicators(bytes);
  });
  const file = path.join(scratch, 'indicators');
  writeFileSync(file, bytes);
  const cold = () =>
    Number(tryCapture(process.execPath, [fromRoot('benches/cold.mjs'), directory, file]));
  const cold_ms = round(median(Array.from({ length: rounds }, cold)), 2);
  return { count, bytes: bytes.length, load_ms: round(load_us / 1000, 2), cold_ms };
}

/**
 * Returns the median time of one run of each task in µs. The tasks run in turn. Each task is a
 * function of its number of runs.
 */
function interleaved(...tasks) {
  const counts = tasks.map(calibrate);
  const samples = tasks.map(() => []);
  for (let i = 0; i < rounds; i++)
    tasks.forEach((task, index) =>
      samples[index].push((timed(task, counts[index]) * 1000) / counts[index]),
    );
  return samples.map((list) => round(median(list), 2));
}

/** Returns the number of runs that fill a sample, after a warm-up. */
function calibrate(task) {
  let n = 1;
  for (let warm = 0; warm < 3; warm++) timed(task, 1);
  while (timed(task, n) < sampleMs / 4 && n < 1 << 22) n *= 2;
  return Math.max(1, Math.round((n * sampleMs) / Math.max(timed(task, n), 0.01)));
}

/** Returns the milliseconds of `n` runs of a task. */
function timed(task, n) {
  const began = performance.now();
  task(n);
  return performance.now() - began;
}

export const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
export const round = (value, digits) => Number(value.toFixed(digits));
