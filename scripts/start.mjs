// npm start: installs tools, builds, and runs the demo origin with the filter in front of it. Both
// listen only on 127.0.0.1.
//   npm start -- --origin URL   in front of one's own API; the demo origin does not run
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { buildConsole, buildWorker } from './lib/build.mjs';
import { guide } from './lib/demo.mjs';
import { ownGuide, readOrigin } from './lib/own-origin.mjs';
import { start as startOrigin } from './demo-origin.mjs';
import { fromRoot, endChildrenOnSignal, Failure, main, start, stopAll } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';

const HOST = '127.0.0.1';
const PORT = 8787;
const BASE = `http://${HOST}:${PORT}`;
/**
 * Profile of the build. `development` compiles in half the time. `HEDGEROW_PROFILE=release` builds
 * the Worker as for deployment.
 */
const PROFILE = process.env.HEDGEROW_PROFILE ?? 'development';

async function run() {
  const ownOrigin = await readOrigin(process.argv.slice(2), BASE);
  await assertFree();
  await setup();
  await buildWorker({ profile: PROFILE });
  await buildConsole({ profile: PROFILE });
  await writeKeys();
  const demoOrigin = ownOrigin ? null : await startOrigin();
  try {
    const wrangler = startWrangler(writeEnv(ownOrigin ?? demoOrigin.url));
    await healthy(wrangler);
    console.log(ownOrigin ? ownGuide(BASE, ownOrigin) : guide(BASE));
    await new Promise((done) => wrangler.once('exit', done));
    throw new Failure('wrangler ended.\n  Its output is above; `npm start` starts it again.');
  } finally {
    await stopAll();
    await demoOrigin?.close();
  }
}

/** Throws if the filter's port is taken. */
function assertFree() {
  const find = `\`ss -ltnp | grep ${PORT}\` (or \`lsof -i :${PORT}\`)`;
  const taken = [
    `port ${PORT} is taken, perhaps by another \`npm start\`.`,
    `  Find the process: ${find}, end it, and try again.`,
  ].join('\n');
  const message = (code) =>
    code === 'EADDRINUSE' ? taken : `cannot listen at ${HOST}:${PORT}: ${code}`;
  return new Promise((done, fail) => {
    const probe = net.createServer();
    probe.once('error', ({ code }) => fail(new Failure(message(code))));
    probe.listen(PORT, HOST, () => probe.close(done));
  });
}

/**
 * Writes a key pair for signing rules on this machine. hedgerow.toml contains the paths of its
 * files.
 */
async function writeKeys() {
  mkdirSync(fromRoot('.wrangler'), { recursive: true });
  const secret = fromRoot('.wrangler/dev.key');
  if (existsSync(`${secret}.pub`)) return;
  // Imported here, because the module imports a package that only `setup` installs.
  const { minisignKeyPair } = await import('./lib/minisign.mjs');
  const keys = minisignKeyPair();
  writeFileSync(secret, keys.secret, { mode: 0o600 });
  writeFileSync(`${secret}.pub`, keys.public);
}

/**
 * Writes the settings of the Worker to a file, because secrets must not appear in a command line.
 * Returns the path of the file. Secrets are generated only once, so that the hashes of accounts do
 * not change.
 */
function writeEnv(originUrl) {
  const secret = () => randomBytes(32).toString('hex');
  const secrets = fromRoot('.wrangler/dev-secrets.env');
  if (!existsSync(secrets)) {
    writePrivate(secrets, `ACCOUNT_SECRET=${secret()}\nTAG_SECRET=${secret()}\n`);
  }
  const token = fromRoot('.wrangler/dev-token');
  if (!existsSync(token)) writePrivate(token, `${secret()}\n`);
  const publicKey = readFileSync(fromRoot('.wrangler/dev.key.pub'), 'utf8');
  const settings = {
    ORIGIN: originUrl,
    ENVIRONMENT: 'development',
    LOG_DECISIONS: 'all',
    PUBLIC_KEYS: publicKey.trim().split('\n').pop(),
    ADMIN_TOKEN: readFileSync(token, 'utf8').trim(),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
  const file = fromRoot('.wrangler/dev.env');
  writePrivate(file, readFileSync(secrets, 'utf8') + lines.join(''));
  return file;
}

const writePrivate = (file, text) => writeFileSync(file, text, { mode: 0o600 });

/** Starts `wrangler dev`. Prints the Worker's log and errors, and hides wrangler's own notices. */
function startWrangler(envFile) {
  const args = [
    'dev',
    ...['--ip', HOST, '--port', String(PORT), '--inspector-port', '0'],
    ...['--env-file', envFile, '--log-level', 'log', '--show-interactive-dev-session=false'],
  ];
  const env = { NO_COLOR: '1', HEDGEROW_PROFILE: PROFILE };
  const child = start(fromRoot('node_modules/.bin/wrangler'), args, { env });
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

/** Lines of wrangler's output that are hidden. */
const NOISE = new RegExp(
  [
    // The banner.
    /⛅️|^\[custom build\] Running|─{5}|⎔|^Using secrets/,
    // The table of bindings.
    /^Your Worker has access|^Binding +Resource|^env\.\w+ \(/,
    // A line for each request.
    /\[wrangler:info\]/,
    // Harmless errors: without an internet connection, wrangler cannot fetch a sample of
    // `Request.cf`.
    /Request\.cf|workers\.cloudflare\.com|GetAddrInfoReqWrap/,
  ]
    .map(({ source }) => source)
    .join('|'),
);

/** Waits until the filter is healthy. Throws after two minutes. */
async function healthy(child) {
  const end = Date.now() + 120_000;
  let last = 'no answer';
  while (Date.now() < end) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Failure('wrangler ended before the filter answered.\n  Its output is above.');
    }
    try {
      const signal = AbortSignal.timeout(5000);
      const response = await fetch(`${BASE}/_hedgerow/health`, { signal });
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
