// npm run instructions: how many instructions a request costs natively, by callgrind, against benches/instructions.json.
// They do not depend on how busy the machine is. `--accept` writes down what they are now.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { buildCommandLine } from '../scripts/lib/build.mjs';
import { at, capture, endChildrenOnSignal, Failure, main, run } from '../scripts/lib/proc.mjs';
import { setup } from '../scripts/lib/setup.mjs';
import { body, ruleFiles } from './bodies.mjs';

const RECORD = at('benches/instructions.json');
const DIR = at('build/instructions');
const TOLERANCE = 0.03;
/** Kind of text, bytes of the body, and how many of them are counted. */
const KINDS = [['everyday', 2048, 40], ['english', 2048, 40], ['code', 16384, 10], ['chinese', 4096, 20], ['near misses', 4096, 20]];

/** Returns why it could not be told, or nothing. */
export async function instructions({ accept = false } = {}) {
  if (capture('valgrind', ['--version']) === null) return 'valgrind is missing (Debian: apt-get install valgrind)';
  await buildCommandLine();
  mkdirSync(DIR, { recursive: true });
  if (capture('valgrind', ['--tool=callgrind', '--callgrind-out-file=/dev/null', at('target/debug/hedgerow'), '--version'], { stdio: ['ignore', 'pipe', 'ignore'] }) === null) return 'valgrind does not run here';
  rmSync(path.join(DIR, 'rules'), { recursive: true, force: true });
  for (const [file, text] of ruleFiles()) {
    mkdirSync(path.dirname(path.join(DIR, 'rules', file)), { recursive: true });
    writeFileSync(path.join(DIR, 'rules', file), text);
  }
  cpSync(at('rules/policy.toml'), path.join(DIR, 'rules/policy.toml'));
  const now = { by: by(), rules: {} };
  if (!accept && now.by !== recorded().by) return `counted here by others than the recorded ones: ${now.by}; ${recorded().by}`;
  for (const [name, rules] of [['generated', path.join(DIR, 'rules')], ['shipped', at('rules')]]) {
    const bundle = path.join(DIR, `${name}.json`);
    await run(at('target/debug/hedgerow'), ['build', rules, '-o', bundle], { label: `hedgerow build → ${path.relative(at(), bundle)}`, quiet: true });
    now.rules[name] = { digest: createHash('sha256').update(readFileSync(bundle)).digest('hex'), per_request: {} };
    for (const [kind, bytes, count] of KINDS) {
      const few = counted(bundle, kind, bytes, count);
      now.rules[name].per_request[`${kind}, ${bytes} bytes`] = Math.round((counted(bundle, kind, bytes, 2 * count) - few) / count);
    }
  }
  if (accept) return writeFileSync(RECORD, `${JSON.stringify(now, null, 2)}\n`);
  compare(now, recorded());
}

const recorded = () => JSON.parse(readFileSync(RECORD, 'utf8'));

/** What the counts depend on beside the code: the compiler, its target and flags, the counter, and what libraries make of the processor. */
function by() {
  const rustc = (capture('rustc', ['--version', '--verbose']) ?? '').split('\n').filter((line) => /^(host|release|commit-hash)/.test(line));
  const simd = existsSync('/proc/cpuinfo') && /\bavx2\b/.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'avx2' : 'no avx2';
  return [...rustc, capture('valgrind', ['--version']), simd, `RUSTFLAGS: ${process.env.RUSTFLAGS ?? 'none'}`].join(', ');
}

function compare(now, known) {
  const worse = [];
  for (const [name, { digest, per_request }] of Object.entries(now.rules)) {
    for (const [what, count] of Object.entries(per_request)) {
      const change = count / known.rules[name].per_request[what] - 1;
      console.log(`  ${name} rules, ${what}: ${count.toLocaleString('en')} instructions a request, ${change >= 0 ? '+' : '−'}${(100 * Math.abs(change)).toFixed(1)} %`);
      // Rules that changed may cost what they are worth.
      if (digest === known.rules[name].digest && !(change <= TOLERANCE)) worse.push(`${name} rules, ${what}`);
    }
  }
  if (worse.length) throw new Failure(`more instructions a request than 3 % above the record: ${worse.join('; ')}\n  npm run instructions -- --accept where that is worth it`);
}

/** Instructions of a replay of so many different requests. */
function counted(bundle, kind, bytes, count) {
  const line = (_, i) => JSON.stringify({ method: 'POST', path: '/v1/chat/completions', headers: { 'content-type': 'application/json', 'user-agent': 'bench' }, account: `account-${i}`, body: body(kind, bytes + i).toString() });
  const file = path.join(DIR, `${kind}-${count}.ndjson`);
  writeFileSync(file, Array.from({ length: count }, line).join('\n'));
  const out = path.join(DIR, 'callgrind.out');
  const output = capture('valgrind', ['--tool=callgrind', `--callgrind-out-file=${out}`, at('target/debug/hedgerow'), '--format', 'json', 'replay', '--no-correlate', '--ruleset', bundle, file], { stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 64 << 20 });
  if (JSON.parse(output ?? '{}').requests !== count) throw new Failure(`valgrind: the replay of ${file} failed`);
  return Number(/^totals: (\d+)/m.exec(readFileSync(out, 'utf8'))[1]);
}

if (process.argv[1] === at('benches/instructions.mjs')) {
  endChildrenOnSignal();
  await main(async () => {
    await setup();
    const skipped = await instructions({ accept: process.argv.includes('--accept') });
    if (skipped) console.log(`not counted: ${skipped}`);
  });
}
