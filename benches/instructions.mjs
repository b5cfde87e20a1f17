// npm run instructions: counts the instructions with which the native build evaluates a request,
// with callgrind, and compares the counts with benches/instructions.json. Reading the recording is
// not counted. The counts do not depend on the load of the machine. `--accept` records the current
// counts.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { buildCommandLine, COMMAND_LINE } from '../scripts/lib/build.mjs';
import {
  endChildrenOnSignal,
  Failure,
  fromRoot,
  main,
  run,
  tryCapture,
} from '../scripts/lib/proc.mjs';
import { setup } from '../scripts/lib/setup.mjs';
import { body, ruleFiles } from './bodies.mjs';

const RECORD = fromRoot('benches/instructions.json');
const DIR = fromRoot('build/instructions');
/** Largest relative increase that does not count as a regression. */
const TOLERANCE = 0.03;
/** The function that evaluates a request. It is called once for each request. */
const EVALUATE = 'hedgerow_core::engine::LocalEngine::evaluate_as';
/** Kind of text, bytes of a body, number of requests. */
const KINDS = [
  ['everyday', 2048, 40],
  ['english', 2048, 40],
  ['code', 16384, 10],
  ['chinese', 4096, 20],
  ['russian', 4096, 20],
  ['thai', 4096, 20],
  ['near misses', 4096, 20],
];

/**
 * Counts the instructions per request. If this machine cannot count them, returns the reason.
 * Throws if a count exceeds the recorded count by more than 3 %. With `accept`, records the counts
 * instead.
 */
export async function instructions({ accept = false } = {}) {
  if (tryCapture('valgrind', ['--version']) === null)
    return 'valgrind is missing (Debian: apt-get install valgrind)';
  await buildCommandLine();
  mkdirSync(DIR, { recursive: true });
  if (
    tryCapture(
      'valgrind',
      ['--tool=callgrind', '--callgrind-out-file=/dev/null', COMMAND_LINE, '--version'],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    ) === null
  )
    return 'valgrind does not run here';
  rmSync(path.join(DIR, 'rules'), { recursive: true, force: true });
  for (const [file, text] of ruleFiles()) {
    mkdirSync(path.dirname(path.join(DIR, 'rules', file)), { recursive: true });
    writeFileSync(path.join(DIR, 'rules', file), text);
  }
  cpSync(fromRoot('rules/policy.toml'), path.join(DIR, 'rules/policy.toml'));
  const current = { by: environment(), rules: {} };
  if (!accept && current.by !== recorded().by)
    return `this environment (${current.by}) is not the recorded one (${recorded().by})`;
  const recording = path.join(DIR, 'requests.ndjson');
  writeFileSync(recording, requestLines().join('\n'));
  for (const [name, rules] of [
    ['generated', path.join(DIR, 'rules')],
    ['shipped', fromRoot('rules')],
  ]) {
    const bundle = path.join(DIR, `${name}.json`);
    await run(COMMAND_LINE, ['build', rules, '-o', bundle], {
      label: `hedgerow build → ${path.relative(fromRoot(), bundle)}`,
      quiet: true,
    });
    current.rules[name] = {
      digest: digestOfSignatures(rules),
      per_request: perRequest(countReplay(bundle, recording)),
    };
  }
  if (accept) return writeFileSync(RECORD, `${JSON.stringify(current, null, 2)}\n`);
  compare(current, recorded());
}

const recorded = () => JSON.parse(readFileSync(RECORD, 'utf8'));

/**
 * Returns the SHA-256 of all signatures below a directory, in hex. Leaves out the policy: a
 * different digest disables the comparison, and a new setting must not hide a regression.
 */
function digestOfSignatures(rules) {
  const hash = createHash('sha256');
  const files = readdirSync(rules, { recursive: true }).filter((file) => file.endsWith('.yml'));
  for (const file of files.sort())
    hash.update(`${file}\0${readFileSync(path.join(rules, file))}\0`);
  return hash.digest('hex');
}

/**
 * Describes everything except the code that affects the counts: compiler, target, flags, valgrind,
 * and the SIMD extensions of the processor.
 */
function environment() {
  const rustc = (tryCapture('rustc', ['--version', '--verbose']) ?? '')
    .split('\n')
    .filter((line) => /^(host|release|commit-hash)/.test(line));
  const simd =
    existsSync('/proc/cpuinfo') && /\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8'))
      ? 'avx2'
      : 'no avx2';
  return [
    ...rustc,
    tryCapture('valgrind', ['--version']),
    simd,
    `RUSTFLAGS: ${process.env.RUSTFLAGS ?? 'none'}`,
  ].join(', ');
}

/** Prints each count with its change. Throws if a count exceeds the record by more than 3 %. */
function compare(current, record) {
  const regressions = [];
  for (const [name, { digest, per_request }] of Object.entries(current.rules)) {
    for (const [kind, instructions] of Object.entries(per_request)) {
      const counted = `${instructions.toLocaleString('en')} instructions per request`;
      const before = record.rules[name].per_request[kind];
      if (before === undefined) {
        console.log(`  ${name} rules, ${kind}: ${counted}, not recorded`);
        continue;
      }
      const change = instructions / before - 1;
      const percent = `${change >= 0 ? '+' : '−'}${(100 * Math.abs(change)).toFixed(1)} %`;
      console.log(`  ${name} rules, ${kind}: ${counted}, ${percent}`);
      // Changed rules may cost more. Only counts with equal rules are compared.
      if (digest === record.rules[name].digest && !(change <= TOLERANCE))
        regressions.push(`${name} rules, ${kind}`);
    }
  }
  if (regressions.length)
    throw new Failure(
      `instructions per request exceed the record by more than 3 %: ${regressions.join('; ')}\n` +
        '  run `npm run instructions -- --accept` if the change is worth it',
    );
}

/**
 * Returns the lines of the recording: the requests of all kinds twice. Only the second half counts,
 * because work that is done once, such as compiling regexes, is done in the first. A last request
 * makes callgrind write the counts of the request before it.
 */
function requestLines() {
  const half = KINDS.flatMap(([kind, bytes, requests]) =>
    Array.from({ length: requests }, (_, i) =>
      JSON.stringify({
        method: 'POST',
        path: '/v1/chat/completions',
        headers: { 'content-type': 'application/json', 'user-agent': 'bench' },
        account: `account-${i}`,
        body: body(kind, bytes + i).toString(),
      }),
    ),
  );
  return [...half, ...half, half[0]];
}

/** Replays a recording under callgrind. Returns the instructions of all but the last evaluation. */
function countReplay(bundle, recording) {
  const out = path.join(DIR, 'callgrind.out');
  for (const file of readdirSync(DIR)) {
    if (file.startsWith('callgrind.out')) rmSync(path.join(DIR, file));
  }
  const events = [`--toggle-collect=${EVALUATE}`, `--dump-before=${EVALUATE}`];
  const valgrind = ['--tool=callgrind', `--callgrind-out-file=${out}`, ...events];
  const replay = ['--format', 'json', 'replay', '--no-correlate', '--ruleset', bundle, recording];
  const output = tryCapture('valgrind', [...valgrind, COMMAND_LINE, ...replay], {
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 << 20,
  });
  const { requests } = JSON.parse(output ?? '{}');
  const dumps = readdirSync(DIR).filter((file) => /^callgrind\.out\.\d+$/.test(file));
  const expected = readFileSync(recording, 'utf8').split('\n').length;
  if (requests !== expected || dumps.length !== expected)
    throw new Failure(
      `valgrind: the replay of ${recording} scored ${requests} requests and called ${EVALUATE} ` +
        `${dumps.length} times: expected ${expected}`,
    );
  // callgrind writes a dump at the start of each evaluation. So the first one is empty.
  return Array.from({ length: expected - 1 }, (_, i) => {
    const dump = readFileSync(`${out}.${i + 2}`, 'utf8');
    return Number(/^totals: (\d+)/m.exec(dump)[1]);
  });
}

/** Returns the mean of the counts of each kind in the second half of the recording, rounded. */
function perRequest(counts) {
  let next = counts.length / 2;
  const mean = (requests) => {
    const sum = counts.slice(next, next + requests).reduce((total, count) => total + count, 0);
    next += requests;
    return Math.round(sum / requests);
  };
  return Object.fromEntries(
    KINDS.map(([kind, bytes, requests]) => [`${kind}, ${bytes} bytes`, mean(requests)]),
  );
}

if (process.argv[1] === fromRoot('benches/instructions.mjs')) {
  endChildrenOnSignal();
  await main(async () => {
    await setup();
    const skipped = await instructions({ accept: process.argv.includes('--accept') });
    if (skipped) console.log(`not counted: ${skipped}`);
  });
}
