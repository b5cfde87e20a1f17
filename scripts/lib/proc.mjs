// Runs child processes, captures their output, and ends them together with their own children. Uses
// Node built-ins only.
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
export const fromRoot = (...parts) => path.join(ROOT, ...parts);

/** Returns the environment of tools: node_modules/.bin (Node 24, wrangler) is first in its PATH. */
export function toolEnv(extra = {}) {
  const directories = [fromRoot('node_modules/.bin'), fromRoot('.tools/bin'), process.env.PATH];
  return {
    ...process.env,
    PATH: directories.join(path.delimiter),
    WRANGLER_SEND_METRICS: 'false',
    ...extra,
  };
}

/** An expected failure. Its message contains a remedy, and is printed without a stack trace. */
export class Failure extends Error {}

/** Formats a duration, such as `3.2 s` or `2 min 5 s`. */
export function seconds(ms) {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** Returns the output of a command, or null if the command is missing or fails. */
export function tryCapture(cmd, args, options = {}) {
  const spawned = { cwd: ROOT, encoding: 'utf8', env: toolEnv(), ...options };
  const { status, stdout } = spawnSync(cmd, args, spawned);
  return status === 0 ? stdout.trim() : null;
}

const children = new Set();

/** Starts a command as the leader of a process group, so that `stop` ends its children too. */
export function start(
  cmd,
  args,
  { env = {}, cwd = ROOT, stdio = ['ignore', 'pipe', 'pipe'] } = {},
) {
  const child = spawn(cmd, args, { cwd, env: toolEnv(env), stdio, detached: true });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

function signal(child, name) {
  try {
    process.kill(-child.pid, name);
  } catch {
    // The group has ended already.
  }
}

/** Ends a child and its children: with SIGTERM, and with SIGKILL after `grace` ms. */
export async function stop(child, grace = 4000) {
  if (!child.pid) return;
  const hasEnded = child.exitCode !== null || child.signalCode !== null;
  const ended = hasEnded ? null : new Promise((done) => child.once('exit', done));
  signal(child, 'SIGTERM');
  const timer = setTimeout(() => signal(child, 'SIGKILL'), grace);
  await ended;
  clearTimeout(timer);
  // The children may still be running.
  signal(child, 'SIGKILL');
}

export const stopAll = () => Promise.all([...children].map((child) => stop(child)));

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/**
 * Installs handlers for signals and uncaught exceptions, which end every child before this process
 * ends.
 */
export function endChildrenOnSignal(before = () => {}) {
  let ending = false;
  const end = async (code) => {
    if (ending) return;
    ending = true;
    before();
    await stopAll();
    process.exit(code);
  };
  for (const [name, code] of Object.entries(EXIT_CODES)) process.on(name, () => end(code));
  process.on('uncaughtException', (error) => {
    console.error(error);
    void end(1);
  });
}

/**
 * Runs a command to its end. Throws if the command fails. With `quiet`, shows a line with the
 * elapsed time, and prints the whole output only if the command fails. If it succeeds, prints only
 * the matches of `summary`, a global regular expression.
 */
export async function run(
  cmd,
  args,
  { label, env, cwd = ROOT, quiet = false, remedy = '', summary } = {},
) {
  const ticker = quiet ? tick(label ?? cmd) : null;
  if (!quiet && label) console.log(`▸ ${label}`);
  const output = quiet ? 'pipe' : 'inherit';
  const child = start(cmd, args, { env, cwd, stdio: ['ignore', output, output] });
  let printed = '';
  const keep = (data) => {
    printed = (printed + data).slice(-200_000);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  const code = await new Promise((done) => {
    const reason = ({ code, message }) => (code === 'ENOENT' ? `${cmd} was not found` : message);
    child.once('error', (error) => done(reason(error)));
    child.once('close', (status, name) => done(status ?? name));
  });
  ticker?.(code === 0);
  if (code === 0 && summary) {
    for (const [line] of printed.matchAll(summary)) console.log(`  ${line.trim()}`);
  }
  if (code !== 0) {
    if (quiet) process.stderr.write(printed);
    const why = typeof code === 'string' ? code : `exit ${code}`;
    throw new Failure(`${label ?? [cmd, ...args].join(' ')}: ${why}${remedy && `\n  ${remedy}`}`);
  }
}

/**
 * Shows a label with the elapsed time: on a terminal, in one line that changes each second;
 * elsewhere, in a new line per minute. Returns a function that stops the display.
 */
function tick(label) {
  const began = Date.now();
  const elapsed = () => Date.now() - began;
  const tty = process.stdout.isTTY;
  const [begin, clear] = tty ? ['\r', '\x1b[K'] : ['', ''];
  const show = () => {
    const time = tty ? `${Math.round(elapsed() / 1000)} s` : `${seconds(elapsed())}\n`;
    process.stdout.write(`${begin}▸ ${label} … ${time}${clear}`);
  };
  if (tty) show();
  else console.log(`▸ ${label} …`);
  const timer = setInterval(show, tty ? 1000 : 60_000);
  return (ok) => {
    clearInterval(timer);
    const mark = ok ? '✓' : '✗';
    process.stdout.write(`${begin}${mark} ${label} (${seconds(elapsed())})${clear}\n`);
  };
}

/** Runs the main function of a script. Prints its error, and ends every child. */
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
