// npm run size: the Worker's Wasm, gzipped, against what benches/size.json says it takes; and which crates grew.
// And what the console takes, but for the core and the rules. Fails over the budget, or where it grew by more than 3 %. `--accept` writes down what it takes now.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { buildConsole, buildWorker, WORKER_SIZE } from './lib/build.mjs';
import { fromRoot, endChildrenOnSignal, Failure, main } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';
import { gzipped } from './lib/wasm.mjs';

const RECORD = fromRoot('benches/size.json');
const TOLERANCE = 1.03;
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;

/** Returns why it could not be told, or nothing. */
export async function size({ accept = false } = {}) {
  if (process.env.HEDGEROW_RULES) return 'HEDGEROW_RULES puts other rules in';
  await buildWorker();
  const now = JSON.parse(readFileSync(fromRoot(WORKER_SIZE), 'utf8'));
  if (accept) {
    writeFileSync(RECORD, `${JSON.stringify({ budget: existsSync(RECORD) ? recorded().budget : now.gzip, ...now }, null, 2)}\n`);
    return console.log(`benches/size.json: ${kib(now.gzip)} gzipped`);
  }
  const known = recorded();
  const grown = Object.entries(now.bytes).map(([crate, bytes]) => [crate, bytes - (known.bytes[crate] ?? 0)]).filter(([, by]) => Math.abs(by) > 512).sort(([, a], [, b]) => b - a);
  console.log(`the Worker's Wasm: ${kib(now.gzip)} gzipped, recorded ${kib(known.gzip)}, budget ${kib(known.budget)}`);
  for (const [crate, by] of grown) console.log(`  ${by > 0 ? '+' : '−'}${kib(Math.abs(by))} ${crate}, before wasm-opt`);
  if (now.unwind !== known.unwind || now.rustc !== known.rustc) return `built by another compiler than the recorded one (${known.rustc}, ${known.unwind ? 'with' : 'without'} unwinding)`;
  const limit = Math.min(known.budget, known.gzip * TOLERANCE);
  if (now.gzip > limit) throw new Failure(`the Worker's Wasm takes ${kib(now.gzip)} gzipped, more than ${kib(limit)}: see what grew above; npm run size -- --accept where that is worth it`);
}

/** Bytes that the console may take over the wire, gzipped, without the core (Wasm) and the rules (JSON). */
const CONSOLE_BUDGET = 250_000;

export async function consoleSize() {
  await buildConsole();
  const root = fromRoot('build/console/_hedgerow');
  const files = readdirSync(root, { recursive: true }).filter((name) => /\.(html|js|css|svg)$/.test(name));
  const sizes = files.map((name) => [name, gzipped(readFileSync(`${root}/${name}`))]).sort(([, a], [, b]) => b - a);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  console.log(`the console: ${kib(total)} gzipped, budget ${kib(CONSOLE_BUDGET)}`);
  for (const [name, size] of sizes) console.log(`  ${kib(size)} ${name}`);
  if (total > CONSOLE_BUDGET) throw new Failure(`the console takes ${kib(total)} gzipped, more than ${kib(CONSOLE_BUDGET)}: see above which file grew`);
}

const recorded = () => JSON.parse(readFileSync(RECORD, 'utf8'));

if (process.argv[1] === fromRoot('scripts/size.mjs')) {
  endChildrenOnSignal();
  await main(async () => {
    await setup();
    const skipped = await size({ accept: process.argv.includes('--accept') });
    if (skipped) console.log(`not compared: ${skipped}`);
    await consoleSize();
  });
}
