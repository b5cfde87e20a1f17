// npm run instructions: counts the instructions per request of the native build with callgrind, and
// compares the counts with benches/instructions.json. The counts do not depend on the load of the
// machine. `--accept` records the current counts.
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
  for (const [name, rules] of [
    ['generated', path.join(DIR, 'rules')],
    ['shipped', fromRoot('rules')],
  ]) {
    const bundle = path.join(DIR, `${name}.json`);
    await run(COMMAND_LINE, ['build', rules, '-o', bundle], {
      label: `hedgerow build → ${path.relative(fromRoot(), bundle)}`,
      quiet: true,
    });
    current.rules[name] = { digest: digestOfSignatures(rules), per_request: {} };
    for (const [kind, bytes, requests] of KINDS) {
      // The difference of the two runs excludes the work that is done once: start-up, loading the
      // bundle, and set-up on first use, such as compiling regexes.
      const once = count(bundle, kind, bytes, requests, 1);
      const twice = count(bundle, kind, bytes, requests, 2);
      current.rules[name].per_request[`${kind}, ${bytes} bytes`] = Math.round(
        (twice - once) / requests,
      );
    }
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

/** Returns the instructions of a replay that scores `requests` different requests `times` times. */
function count(bundle, kind, bytes, requests, times) {
  const line = (_, i) =>
    JSON.stringify({
      method: 'POST',
      path: '/v1/chat/completions',
      headers: { 'content-type': 'application/json', 'user-agent': 'bench' },
      account: `account-${i}`,
      body: body(kind, bytes + i).toString(),
    });
  const file = path.join(DIR, `${kind}-${times}.ndjson`);
  const lines = Array.from({ length: requests }, line);
  writeFileSync(
    file,
    Array.from({ length: times }, () => lines)
      .flat()
      .join('\n'),
  );
  const out = path.join(DIR, 'callgrind.out');
  const output = tryCapture(
    'valgrind',
    [
      '--tool=callgrind',
      `--callgrind-out-file=${out}`,
      COMMAND_LINE,
      '--format',
      'json',
      'replay',
      '--no-correlate',
      '--ruleset',
      bundle,
      file,
    ],
    { stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 64 << 20 },
  );
  if (JSON.parse(output ?? '{}').requests !== requests * times)
    throw new Failure(`valgrind: the replay of ${file} failed`);
  return Number(/^totals: (\d+)/m.exec(readFileSync(out, 'utf8'))[1]);
}

if (process.argv[1] === fromRoot('benches/instructions.mjs')) {
  endChildrenOnSignal();
  await main(async () => {
    await setup();
    const skipped = await instructions({ accept: process.argv.includes('--accept') });
    if (skipped) console.log(`not counted: ${skipped}`);
  });
}
