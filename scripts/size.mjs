// npm run size: compares the gzipped size of the Worker's Wasm with benches/size.json, and prints
// which crates have changed. Fails if the size exceeds its budget, or the recorded size by more
// than 3 %. Fails if the console, without the core and the rules, exceeds its own budget.
// `--accept` records the current size.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { buildConsole, buildWorker, WORKER_SIZE } from './lib/build.mjs';
import { fromRoot, endChildrenOnSignal, Failure, main } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';
import { gzipSize } from './lib/wasm.mjs';

const RECORD = fromRoot('benches/size.json');
const TOLERANCE = 1.03;
/** A crate is printed if its size has changed by more than this number of bytes. */
const MIN_CHANGE = 512;
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;

/**
 * Compares the Worker's size with the recorded size, or records the Worker's size (`accept`).
 * Returns the reason if the sizes cannot be compared. Throws if the Worker is too large.
 */
export async function size({ accept = false } = {}) {
  if (process.env.HEDGEROW_RULES) return 'HEDGEROW_RULES changes the rules in the Worker';
  await buildWorker();
  const current = JSON.parse(readFileSync(fromRoot(WORKER_SIZE), 'utf8'));
  if (accept) return record(current);
  const { budget, ...last } = recorded();
  const sizes = `${kib(current.gzip)} gzipped, recorded ${kib(last.gzip)}, budget ${kib(budget)}`;
  console.log(`the Worker's Wasm: ${sizes}`);
  for (const [crate, change] of changes(current.bytes, last.bytes)) {
    console.log(`  ${change > 0 ? '+' : '−'}${kib(Math.abs(change))} ${crate}, before wasm-opt`);
  }
  if (current.unwind !== last.unwind || current.rustc !== last.rustc) {
    const unwinding = last.unwind ? 'with' : 'without';
    return `the recorded size is of another compiler (${last.rustc}, ${unwinding} unwinding)`;
  }
  const limit = Math.min(budget, last.gzip * TOLERANCE);
  if (current.gzip > limit) {
    const problem = `the Worker's Wasm takes ${kib(current.gzip)}: expected at most ${kib(limit)}`;
    const remedy = 'Reduce the crates that grew, or accept: `npm run size -- --accept`.';
    throw new Failure(`${problem}\n  ${remedy}`);
  }
}

function record(current) {
  const budget = existsSync(RECORD) ? recorded().budget : current.gzip;
  writeFileSync(RECORD, `${JSON.stringify({ budget, ...current }, null, 2)}\n`);
  console.log(`benches/size.json: ${kib(current.gzip)} gzipped`);
}

/** Returns each crate whose bytes of code have changed, with the change, largest growth first. */
function changes(current, last) {
  const differences = Object.entries(current).map(([crate, bytes]) => [
    crate,
    bytes - (last[crate] ?? 0),
  ]);
  return differences
    .filter(([, change]) => Math.abs(change) > MIN_CHANGE)
    .sort(([, a], [, b]) => b - a);
}

/** Maximum size of the console in gzipped bytes, without the core (Wasm) and the rules (JSON). */
const CONSOLE_BUDGET = 250_000;

/** Prints the size of the console. Throws if it exceeds the budget. */
export async function consoleSize() {
  await buildConsole();
  const root = fromRoot('build/console/_hedgerow');
  const names = readdirSync(root, { recursive: true });
  const files = names.filter((name) => /\.(html|js|css|svg)$/.test(name));
  const sizes = files
    .map((name) => [name, gzipSize(readFileSync(`${root}/${name}`))])
    .sort(([, a], [, b]) => b - a);
  const total = sizes.reduce((sum, [, bytes]) => sum + bytes, 0);
  console.log(`the console: ${kib(total)} gzipped, budget ${kib(CONSOLE_BUDGET)}`);
  for (const [name, bytes] of sizes) console.log(`  ${kib(bytes)} ${name}`);
  if (total > CONSOLE_BUDGET) {
    const problem = `the console takes ${kib(total)}: expected at most ${kib(CONSOLE_BUDGET)}`;
    throw new Failure(`${problem}\n  The sizes of its files are printed above.`);
  }
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
