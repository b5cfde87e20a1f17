// `npm start` as a process: it prints the guide and answers requests, and Ctrl-C ends all its
// processes.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { expect, it } from 'vitest';
import { guide, ORDINARY } from '../../scripts/lib/demo.mjs';
import { eventually, ROOT, until } from './support.ts';

const PORT = 8787;
const BASE = `http://127.0.0.1:${PORT}`;

const listens = (port: number) =>
  new Promise<boolean>((done) => {
    const socket = net.connect(port, '127.0.0.1', () => (socket.destroy(), done(true)));
    socket.on('error', () => done(false));
  });

/**
 * Returns a build input that is newer than the build, if any. The spec is skipped then, because
 * `npm start` would build for minutes. `npm test` builds before it runs this spec.
 */
function newerInput(): string | undefined {
  const newest = (file: string): number => {
    const stat = statSync(file, { throwIfNoEntry: false });
    return Math.max(
      stat?.mtimeMs ?? 0,
      ...(stat?.isDirectory()
        ? readdirSync(file).map((name) => newest(path.join(file, name)))
        : []),
    );
  };
  const rules = process.env.HEDGEROW_RULES ?? path.join(ROOT, 'rules');
  const stamp = path.join(ROOT, 'build/.stamp');
  if (!existsSync(stamp) || JSON.parse(readFileSync(stamp, 'utf8')).rules !== rules) return rules;
  const inputs = [
    'Cargo.toml',
    'Cargo.lock',
    'src/core',
    'src/sigma',
    'src/wasm',
    'src/worker',
    'scripts/compile-rules.mjs',
    'scripts/lib/build.mjs',
  ].map((input) => path.join(ROOT, input));
  return [...inputs, rules].find((input) => newest(input) >= statSync(stamp).mtimeMs);
}

const newer = newerInput();
const reason = newer
  ? `build/ is stale (\`npm run build\`): ${newer}`
  : (await listens(PORT))
    ? `port ${PORT} is taken`
    : '';
if (reason) console.log(`skipped: ${reason}`);

it.skipIf(reason)('Ctrl-C ends npm start and all its processes', async () => {
  // Removes the variables that vitest sets for its own processes.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_ENV|TEST$)/.test(name)),
  );
  // Uses the profile that `npm test` has built.
  env.HEDGEROW_PROFILE = 'release';
  const child = spawn(process.execPath, [path.join(ROOT, 'scripts/start.mjs')], {
    cwd: ROOT,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exit = new Promise((done) => child.once('exit', (code, signal) => done(code ?? signal)));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  try {
    await until('the guide', () => output.includes(guide(BASE)) || child.exitCode !== null);
    expect(child.exitCode, output).toBeNull();
    const demo = Number(
      /^ORIGIN=http:\/\/127\.0\.0\.1:(\d+)$/m.exec(
        readFileSync(path.join(ROOT, '.wrangler/dev.env'), 'utf8'),
      )![1],
    );
    expect([await listens(PORT), await listens(demo)]).toEqual([true, true]);
    const { path: target, headers, body } = ORDINARY;
    const res = await fetch(BASE + target, { method: 'POST', headers, body });
    expect([
      res.status,
      res.headers.get('x-demo-origin'),
      res.headers.get('x-hedgerow-band'),
    ]).toEqual([200, '1', 'clear']);
    await res.text();
    await until('the decision in the log', () =>
      output.includes(`"request_id":"${res.headers.get('x-hedgerow-request-id')}"`),
    );
    // Signals the whole process group, as a terminal does for Ctrl-C.
    process.kill(-child.pid!, 'SIGINT');
    expect(await exit).toBe(130);
    await eventually('closed ports', async () =>
      expect([await listens(PORT), await listens(demo)]).toEqual([false, false]),
    );
  } finally {
    // After SIGTERM, `npm start` ends its own children.
    child.kill('SIGTERM');
    await exit;
  }
});
