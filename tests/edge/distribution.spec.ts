// The archive of the Worker in an environment without Rust: `wrangler dev` serves it, and it scores
// requests.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pack } from '../../scripts/lib/archive.mjs';
import { writeWorker } from '../../scripts/lib/release.mjs';
import { chat, eventually, isBuilt, ROOT, SECRETS, useOrigin } from './support.ts';

const NAME = 'hedgerow-worker-0.0.0';
const built =
  isBuilt('build/index.js', 'npm run build') &&
  isBuilt('build/console/_hedgerow/index.html', 'npm run build -- console');
const origin = useOrigin();
const folder = mkdtempSync(path.join(tmpdir(), 'hedgerow-archive-'));
const unpacked = path.join(folder, 'unpacked', NAME);

/** Variables of a process that finds the shell's tools and Node 24, but not cargo. */
function environment() {
  const bin = path.join(folder, 'bin');
  mkdirSync(bin);
  symlinkSync(path.join(ROOT, 'node_modules/node/bin/node'), path.join(bin, 'node'));
  const env = { PATH: `${bin}:/usr/bin:/bin`, HOME: folder, NO_COLOR: '1' };
  return { ...env, WRANGLER_SEND_METRICS: 'false', CI: '1' };
}

beforeAll(() => {
  if (!built) return;
  const out = path.join(folder, NAME);
  writeWorker({ build: path.join(ROOT, 'build'), out, version: '0.0.0', parts: [], epoch: 1 });
  const archive = path.join(folder, 'worker.tar.gz');
  pack({ parent: folder, name: NAME, archive, epoch: 1 });
  rmSync(out, { recursive: true });
  mkdirSync(path.dirname(unpacked));
  const { status } = spawnSync('tar', ['-xzf', archive, '-C', path.dirname(unpacked)]);
  expect(status).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.skipIf(!built)('wrangler dev serves the unpacked archive without Rust', async () => {
  const env = environment();
  expect(spawnSync('cargo', ['--version'], { env }).error).toMatchObject({ code: 'ENOENT' });
  const vars = { ...SECRETS, ORIGIN: origin.url, ENVIRONMENT: 'development' };
  const lines = Object.entries(vars).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(path.join(unpacked, '.dev.vars'), lines.join(''));
  const wrangler = path.join(ROOT, 'node_modules/wrangler/bin/wrangler.js');
  const options = ['--ip', '127.0.0.1', '--port', '0', '--inspector-port', '0'];
  const child = spawn(
    'node',
    [wrangler, 'dev', ...options, '--show-interactive-dev-session=false'],
    { cwd: unpacked, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const exit = new Promise((done) => child.once('exit', done));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  try {
    const base = await eventually('the address of wrangler', async () => {
      const address = /Ready on (http:\/\/127\.0\.0\.1:\d+)/.exec(output)?.[1];
      if (!address) throw new Error(output);
      return address;
    });
    const health = await fetch(`${base}/_hedgerow/health`);
    expect([health.status, (await health.json()).problems]).toEqual([200, []]);
    expect((await fetch(`${base}/_hedgerow/`)).status).toBe(200);
    const response = await fetch(`${base}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer sk-test-0001' },
      body: JSON.stringify(chat('When do blackbirds nest?')),
    });
    await response.text();
    expect([response.status, response.headers.get('x-hedgerow-band')]).toEqual([200, 'clear']);
    expect(origin.last.path).toBe('/v1/chat/completions');
  } finally {
    process.kill(-child.pid!, 'SIGTERM');
    await exit;
  }
});
