// npm start: set-up, build, the demo origin and the filter in front of it, on this machine alone.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { buildConsole, buildWorker } from './lib/build.mjs';
import { guide } from './lib/demo.mjs';
import { start as startOrigin } from './demo-origin.mjs';
import { fromRoot, endChildrenOnSignal, Failure, main, start, stopAll } from './lib/proc.mjs';
import { minisignKeyPair } from './lib/minisign.mjs';
import { setup } from './lib/setup.mjs';

const HOST = '127.0.0.1';
const PORT = 8787;
const BASE = `http://${HOST}:${PORT}`;
/** A profile that compiles in half the time. `HEDGEROW_PROFILE=release npm start` runs what is deployed. */
const PROFILE = process.env.HEDGEROW_PROFILE ?? 'development';

async function run() {
  await assertFree();
  await setup();
  await buildWorker({ profile: PROFILE });
  await buildConsole({ profile: PROFILE });
  writeKeys();
  const origin = await startOrigin();
  try {
    const wrangler = startWrangler(writeEnv(origin.url));
    await healthy(wrangler);
    console.log(guide(BASE));
    await new Promise((done) => wrangler.once('exit', done));
    throw new Failure('wrangler ended.\n  Its last words are above; `npm start` starts again.');
  } finally {
    await stopAll();
    await origin.close();
  }
}

function assertFree() {
  return new Promise((done, fail) => {
    const probe = net.createServer();
    probe.once('error', ({ code }) => fail(new Failure(code === 'EADDRINUSE' ? `port ${PORT} is taken, perhaps by another \`npm start\`.\n  Find it: \`ss -ltnp | grep ${PORT}\` (or \`lsof -i :${PORT}\`), end it, and try again.` : `cannot listen on ${HOST}:${PORT}: ${code}`)));
    probe.listen(PORT, HOST, () => probe.close(done));
  });
}

/** Writes a key pair that signs rules for local use; hedgerow.toml names the files. */
function writeKeys() {
  mkdirSync(fromRoot('.wrangler'), { recursive: true });
  const secret = fromRoot('.wrangler/dev.key');
  if (existsSync(`${secret}.pub`)) return;
  const keys = minisignKeyPair();
  writeFileSync(secret, keys.secret, { mode: 0o600 });
  writeFileSync(`${secret}.pub`, keys.public);
}

/** Secrets are made once and kept, so that accounts keep their names; they never appear in a command line. */
function writeEnv(originUrl) {
  const kept = fromRoot('.wrangler/dev-secrets.env');
  const secret = () => randomBytes(32).toString('hex');
  if (!existsSync(kept)) writeFileSync(kept, `ACCOUNT_SECRET=${secret()}\nTAG_SECRET=${secret()}\n`, { mode: 0o600 });
  const token = fromRoot('.wrangler/dev-token');
  if (!existsSync(token)) writeFileSync(token, `${secret()}\n`, { mode: 0o600 });
  const file = fromRoot('.wrangler/dev.env');
  const settings = { ORIGIN: originUrl, ENVIRONMENT: 'development', PUBLIC_KEYS: readFileSync(fromRoot('.wrangler/dev.key.pub'), 'utf8').trim().split('\n').pop(), ADMIN_TOKEN: readFileSync(token, 'utf8').trim() };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(file, readFileSync(kept, 'utf8') + lines.join(''), { mode: 0o600 });
  return file;
}

/** wrangler dev in a group of its own. The Worker's log and complaints are passed on, wrangler's small talk is not. */
function startWrangler(envFile) {
  const args = ['dev', '--ip', HOST, '--port', String(PORT), '--inspector-port', '0', '--env-file', envFile, '--log-level', 'log', '--show-interactive-dev-session=false'];
  const child = start(fromRoot('node_modules/.bin/wrangler'), args, { env: { NO_COLOR: '1', HEDGEROW_PROFILE: PROFILE } });
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream.on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      for (const line of lines) if (line.trim() && !NOISE.test(line)) console.log(line);
    });
  }
  return child;
}

/** Banner, table of bindings, one line a request; and, off line, that a sample `Request.cf` could not be fetched (harmless). */
const NOISE = /⛅️|^\[custom build\] Running|─{5}|⎔|^Using secrets|^Your Worker has access|^Binding +Resource|^env\.\w+ \(|\[wrangler:info\]|Request\.cf|workers\.cloudflare\.com|GetAddrInfoReqWrap/;

async function healthy(child) {
  const end = Date.now() + 120_000;
  let last = 'no answer';
  while (Date.now() < end) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Failure('wrangler ended before the filter answered.\n  Its output is above.');
    try {
      const response = await fetch(`${BASE}/_hedgerow/health`, { signal: AbortSignal.timeout(5000) });
      if (response.ok) return;
      last = `${response.status} ${await response.text()}`;
    } catch (error) {
      last = error.cause?.code ?? error.message;
    }
    await new Promise((done) => setTimeout(done, 200));
  }
  throw new Failure(`the filter did not become healthy within two minutes: ${last}`);
}

endChildrenOnSignal(() => console.log('\nending …'));
await main(run);
