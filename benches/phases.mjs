// What `npm run bench` measures in Wasm, in Node: the phases of a request, the whole by the shipped rules, the search for
// literals, and taking over rules and indicators. Ours and each peer's in turn, so that both see the same machine.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { at, capture, Failure } from '../scripts/lib/proc.mjs';
import { body, LITERALS, literals, tens, text as plainText, worstCases } from './bodies.mjs';
import { ShippedPeer } from './peer-shipped.mjs';
import { Peer } from './peer.mjs';

export const SIZES = [1, 4, 32, 64, 256, 1024].map((kib) => kib << 10);
export const COUNTS = [50, 500, 5000];
const TEXTS = ['english', 'code', 'chinese', 'base64', 'near misses'];
const PHASES = ['extract', 'match', 'sketch', 'score', 'whole'];

let rounds;
let sampleMs;
let sink = 0;

/** `bundles`: texts of bundles, `shipped` and by the number of literals. `directory`: where the module is. */
export async function inWasm({ directory, bundles, scratch, ...settings }) {
  ({ rounds, sampleMs } = settings);
  const wasm = readFileSync(at(directory, 'hedgerow_playground_bg.wasm'));
  const began = performance.now();
  const module = await import(at(directory, 'hedgerow_playground.js'));
  module.initSync({ module: wasm });
  new module.Bench(bundles[500]).free();
  const instantiateMs = round(performance.now() - began, 1);
  const measured = {
    rows: COUNTS.flatMap((count) => byGenerated(module, bundles[count], count)),
    shipped: byShipped(module, bundles.shipped),
    worst: worst(module, bundles.shipped),
    scans: scans(module),
    reload: reload(module, bundles.shipped),
    indicators: indicators(module, directory, scratch),
    instantiateMs,
  };
  if (!Number.isFinite(sink)) throw new Failure('a phase returned no number: the measurement measured nothing');
  return measured;
}

/** Each phase by generated rules: all kinds and sizes of text with 500 literals, some with fewer and more. */
function byGenerated(module, bundle, count) {
  const usual = count === 500;
  const ours = new module.Bench(bundle);
  const peer = new Peer(tens(literals(count)).map((own, i) => [`bench_${i}`, 3, own]));
  const rows = [];
  for (const text of usual ? TEXTS : TEXTS.slice(0, 2)) {
    for (const bytes of usual ? SIZES : [4 << 10, 64 << 10]) {
      const input = body(text, bytes);
      ours.load(input);
      peer.load(input);
      peer.whole();
      for (const phase of usual ? PHASES : ['match', 'whole']) {
        // The whole pays for the copy into Wasm memory, once a call, as the Worker does.
        const runOurs = phase === 'whole' ? (n) => { for (let i = 0; i < n; i++) sink += Number(ours.whole_from_js(input)); } : (n) => { sink += Number(ours[phase](n)); };
        // Nobody else sketches.
        const rival = phase === 'sketch' ? null : (n) => { for (let i = 0; i < n; i++) sink += peer[phase](); };
        const [ours_us, peer_us = null] = interleaved(...[runOurs, rival].filter(Boolean));
        rows.push({ phase, host: 'wasm', bytes, text, literals: count, ours_us, peer: 'javascript', peer_us, ratio: peer_us && round(ours_us / peer_us, 3) });
        process.stdout.write('.');
      }
    }
  }
  process.stdout.write('\n');
  ours.free();
  return rows;
}

/**
 * The whole by the shipped rules: one body again and again, which a processor learns by heart, as the peer has it; and a
 * hundred in turn, as they come in life. A row says whether both find the same.
 */
function byShipped(module, bundle) {
  const ours = new module.Bench(bundle);
  const peer = new ShippedPeer(JSON.parse(bundle));
  const rows = [];
  for (const text of ['everyday', ...TEXTS]) {
    for (const bytes of SIZES) {
      const one = body(text, bytes);
      const many = Array.from({ length: bytes > 1 << 16 ? 10 : 100 }, (_, i) => body(text, bytes - 1 - i));
      let turn = 0;
      const [ours_us, in_turn_us, peer_us] = interleaved(
        (n) => { for (let i = 0; i < n; i++) sink += ours.whole_from_js(one); },
        (n) => { for (let i = 0; i < n; i++) sink += ours.whole_from_js(many[turn++ % many.length]); },
        (n) => { for (let i = 0; i < n; i++) sink += peer.whole(one).score; },
      );
      const agrees = sameHits(module, bundle, peer, one);
      rows.push({ phase: 'whole', host: 'wasm', bytes, text, rules: 'shipped', ours_us, in_turn_us, peer: 'javascript', peer_us, ratio: round(ours_us / peer_us, 3), agrees });
      process.stdout.write('.');
    }
  }
  process.stdout.write('\n');
  ours.free();
  return rows;
}

/** Whether the peer finds the same signatures. */
function sameHits(module, bundle, peer, one) {
  const request = { method: 'POST', path: '/v1/chat/completions', headers: { 'content-type': 'application/json' }, body: one.toString() };
  const filter = new module.Filter(bundle);
  const { decision } = JSON.parse(filter.score(JSON.stringify(request), 1_790_000_000));
  filter.free();
  const ours = [...decision.hits.map(({ name }) => name), ...decision.shadow_hits].sort();
  // What weighs nothing is no hit of a decision.
  const theirs = peer.whole(one).hits.filter(({ weight }) => weight !== 0).map(({ name }) => name).sort();
  return ours.join() === theirs.join();
}

/** Bodies that are made to be dear, by the shipped rules: as much of them as the Worker scores. */
function worst(module, bundle) {
  const ours = new module.Bench(bundle);
  const { window } = JSON.parse(bundle).policy.scan;
  const rows = Object.entries(worstCases(literals(500))).map(([text, bytes]) => {
    const [ours_us] = interleaved((n) => { for (let i = 0; i < n; i++) sink += ours.whole_from_js(bytes.subarray(0, window)); });
    process.stdout.write('.');
    return { phase: 'whole', host: 'wasm', bytes: bytes.length, scored: Math.min(window, bytes.length), text, rules: 'shipped', ours_us, peer: null, peer_us: null, ratio: null };
  });
  process.stdout.write('\n');
  ours.free();
  return rows;
}

/** The search for literals alone, against aho-corasick's DFA in the same Wasm, and against reading the bytes once. */
function scans(module) {
  const rows = [];
  const shortest = LITERALS.slice(0, 495).concat(['cot:', 'json', 'rank', 'gold', 'bleu']);
  for (const [count, own] of [...COUNTS.map((count) => [count, literals(count)]), ['495, 5 of four bytes', shortest]]) {
    const search = new module.Search(own.join('\n'));
    for (const text of TEXTS) {
      for (const bytes of [64 << 10, 1 << 20]) {
        const input = plainText(text, bytes, own);
        search.load(input);
        if (search.ours(1) !== search.dfa(1)) throw new Failure(`the scan finds ${search.ours(1)} literals in ${text}, aho-corasick ${search.dfa(1)}`);
        const [ours_us, dfa_us, floor_us] = interleaved(...['ours', 'dfa', 'floor'].map((name) => (n) => { sink += search[name](n); }));
        const row = { phase: 'scan', host: 'wasm', bytes: input.length, text, literals: count, ours_us };
        rows.push({ ...row, peer: 'aho-corasick', peer_us: dfa_us, ratio: round(ours_us / dfa_us, 3) }, { ...row, peer: 'floor', peer_us: floor_us, ratio: round(ours_us / floor_us, 3) });
        process.stdout.write('.');
      }
    }
    search.free();
  }
  process.stdout.write('\n');
  return rows;
}

/**
 * What taking over a release costs an isolate: the shipped bundle read and compiled; then every regex of it, too. And of
 * that the tables of the search, which could be shipped instead of built.
 */
function reload(module, bundle) {
  const bytes = Buffer.from(bundle);
  const run = (check) => (n) => { for (let i = 0; i < n; i++) sink += module.reload(bytes, check); };
  const tables = new module.Search([...wordsOf(JSON.parse(bundle))].join('\n'));
  const [load_us, check_us, parse_us, tables_us] = interleaved(run(false), run(true), (n) => { for (let i = 0; i < n; i++) sink += Object.keys(JSON.parse(bundle)).length; }, (n) => { sink += tables.build(n); });
  const ms = (us) => round(us / 1000, 2);
  return { bytes: bytes.length, signatures: module.reload(bytes, false), load_ms: ms(load_us), check_ms: ms(check_us), json_parse_ms: ms(parse_us), tables_ms: ms(tables_us), tables_bytes: tables.bytes() };
}

/** What the search of a bundle looks for, and a few words that are compared with headers. */
function wordsOf(value, words = new Set()) {
  if (Array.isArray(value)) value.forEach((own) => wordsOf(own, words));
  else if (value && typeof value === 'object') {
    if (typeof value.string?.value === 'string') words.add(value.string.value);
    for (const string of value.strings ?? []) words.add(string);
    Object.values(value).forEach((own) => wordsOf(own, words));
  }
  return words;
}

/** What taking over 100,000 indicators costs an isolate, the copy into Wasm memory included. */
function indicators(module, directory, scratch) {
  const bytes = module.some_indicators(100_000);
  const count = module.indicators(bytes);
  const [load_us] = interleaved((n) => { for (let i = 0; i < n; i++) sink += module.indicators(bytes); });
  const file = path.join(scratch, 'indicators');
  writeFileSync(file, bytes);
  const first = () => Number(capture(process.execPath, [at('benches/cold.mjs'), directory, file]));
  const cold_ms = round(median(Array.from({ length: rounds }, first)), 2);
  return { count, bytes: bytes.length, load_ms: round(load_us / 1000, 2), cold_ms };
}

/** Medians in µs of some bodies of work. */
function interleaved(...bodies) {
  const counts = bodies.map(calibrate);
  const samples = bodies.map(() => []);
  for (let i = 0; i < rounds; i++) bodies.forEach((work, own) => samples[own].push((timed(work, counts[own]) * 1000) / counts[own]));
  return samples.map((list) => round(median(list), 2));
}

/** How many runs fill a sample, after a warm-up. */
function calibrate(work) {
  let n = 1;
  for (let warm = 0; warm < 3; warm++) timed(work, 1);
  while (timed(work, n) < sampleMs / 4 && n < 1 << 22) n *= 2;
  return Math.max(1, Math.round((n * sampleMs) / Math.max(timed(work, n), 0.01)));
}

function timed(work, n) {
  const began = performance.now();
  work(n);
  return performance.now() - began;
}

export const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
export const round = (value, digits) => Number(value.toFixed(digits));
