// Child processes: run to the end, look up, start in a group of its own. Node built-ins only.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
export const fromRoot = (...parts) => path.join(ROOT, ...parts);

/** node_modules/.bin first (Node 24, wrangler), then our own tools, then the user's PATH. */
export function toolEnv(extra = {}) {
  return {
    ...process.env,
    PATH: [fromRoot('node_modules/.bin'), fromRoot('.tools/bin'), process.env.PATH].join(path.delimiter),
    WRANGLER_SEND_METRICS: 'false',
    ...extra,
  };
}

/** A failure whose message is all the user needs: printed without a stack. */
export class Failure extends Error {}

export const seconds = (ms) => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`);

/** What a command prints, or null when it is missing or fails. */
export function tryCapture(cmd, args, options = {}) {
  const r = spawnSync(cmd, args, { cwd: ROOT, encoding: 'utf8', env: toolEnv(), ...options });
  return r.status === 0 ? r.stdout.trim() : null;
}

const children = new Set();

/** Starts a command as the leader of its own process group, so that `stop` reaches its children too. */
export function start(cmd, args, { env = {}, cwd = ROOT, stdio = ['ignore', 'pipe', 'pipe'] } = {}) {
  const child = spawn(cmd, args, { cwd, env: toolEnv(env), stdio, detached: true });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

function signal(child, name) {
  try {
    process.kill(-child.pid, name);
  } catch {
    // The group is gone already.
  }
}

/** Ends a child and everything it started: politely, then for good. */
export async function stop(child, grace = 4000) {
  if (!child.pid) return;
  const ended = child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : new Promise((done) => child.once('exit', done));
  signal(child, 'SIGTERM');
  const timer = setTimeout(() => signal(child, 'SIGKILL'), grace);
  await ended;
  clearTimeout(timer);
  signal(child, 'SIGKILL'); // what the leader left behind
}

export const stopAll = () => Promise.all([...children].map((child) => stop(child)));

/** On Ctrl-C, SIGTERM or a defect of ours every child ends before we do. */
export function endChildrenOnSignal(before = () => {}) {
  let ending = false;
  const end = async (code) => {
    if (ending) return;
    ending = true;
    before();
    await stopAll();
    process.exit(code);
  };
  for (const [name, code] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) process.on(name, () => end(code));
  process.on('uncaughtException', (error) => {
    console.error(error);
    void end(1);
  });
}

/**
 * Runs a command to its end. `quiet` shows a ticking line and prints the output only on failure, or the lines of it
 * that match `summary` (a global regular expression); otherwise the output goes straight through.
 */
export async function run(cmd, args, { label, env, cwd = ROOT, quiet = false, remedy = '', summary } = {}) {
  const ticker = quiet ? tick(label ?? cmd) : null;
  if (!quiet && label) console.log(`▸ ${label}`);
  const child = start(cmd, args, { env, cwd, stdio: ['ignore', quiet ? 'pipe' : 'inherit', quiet ? 'pipe' : 'inherit'] });
  let output = '';
  const keep = (data) => {
    output = (output + data).slice(-200_000);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  const code = await new Promise((done) => {
    child.once('error', (error) => done(error.code === 'ENOENT' ? `${cmd} was not found` : error.message));
    child.once('close', (status, name) => done(status ?? name));
  });
  ticker?.(code === 0);
  if (code === 0 && summary) for (const [line] of output.matchAll(summary)) console.log(`  ${line.trim()}`);
  if (code !== 0) {
    if (quiet) process.stderr.write(output);
    const why = typeof code === 'string' ? code : `exit ${code}`;
    throw new Failure(`${label ?? [cmd, ...args].join(' ')}: ${why}${remedy && `\n  ${remedy}`}`);
  }
}

/** A line that counts seconds on a terminal; start and end lines (and one a minute) elsewhere. */
function tick(label) {
  const began = Date.now();
  const tty = process.stdout.isTTY;
  const show = () => process.stdout.write(tty ? `\r▸ ${label} … ${Math.round((Date.now() - began) / 1000)} s\x1b[K` : `▸ ${label} … ${seconds(Date.now() - began)}\n`);
  if (tty) show();
  else console.log(`▸ ${label} …`);
  const timer = setInterval(show, tty ? 1000 : 60_000);
  return (ok) => {
    clearInterval(timer);
    process.stdout.write(`${tty ? '\r' : ''}${ok ? '✓' : '✗'} ${label} (${seconds(Date.now() - began)})${tty ? '\x1b[K' : ''}\n`);
  };
}

/** The main function of a script: expected failures print their message only, and end every child. */
export async function main(body) {
  try {
    await body();
  } catch (error) {
    console.error(`\n${error instanceof Failure ? `error: ${error.message}` : error.stack}`);
    process.exitCode = 1;
  } finally {
    await stopAll();
  }
}

export { existsSync };
