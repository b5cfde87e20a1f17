// Releases that a cron trigger pulls from the operator's server. Pulling needs no token, and
// failures of the server do not affect clients.
import type http from 'node:http';
import { beforeAll, beforeEach, expect, it } from 'vitest';
import { type FaultHandler, useConfigServer } from './config-server.ts';
import { keyPair } from './minisign.ts';
import {
  Admin,
  ADMIN_TOKEN,
  DAY,
  epochSeconds,
  makeBundle,
  makeManifest,
  READ_TOKEN,
  signRelease,
} from './release-fixtures.ts';
import { eventually, Fleet, Origin, useFleet, useOrigin, useTraffic } from './support.ts';

const keys = keyPair();

const first = makeBundle({ lantern_red: 22 });
const second = makeBundle({ lantern_red: 23 });
const canary = makeBundle({ lantern_red: 24 });

const origin = useOrigin(Origin.ok);
const config = useConfigServer(keys);
/** Only the second isolate has tokens. The first isolate pulls without tokens. */
const fleet = useFleet({
  origin,
  edges: [{}, { vars: { READ_TOKEN, ADMIN_TOKEN } }],
  vars: () => ({ PUBLIC_KEYS: keys.publicKey, CONFIG_URL: config.url }),
});
const admin = new Admin(fleet.edges[1]!, READ_TOKEN);
// Shortens the registry's timeout, because some faults never complete a response.
beforeAll(() => fleet.setFaults({ timerSpeed: 10 }));
const traffic = useTraffic(fleet.edges, 50);
beforeEach(() => {
  config.faults.clear();
  config.takeRequests();
});

const pull = async () => (await admin.status()).pull;

it('an isolate without tokens has no API', async () => {
  const { status, body } = await new Admin(fleet.edge, READ_TOKEN).get('/status');
  const unknown = await (await fetch(`${fleet.edge.url}/_hedgerow/unknown`)).json();
  expect([status, body]).toEqual([404, unknown]);
});

it('cron pulls a release and its bundles, and every isolate adopts it', async () => {
  config.putRelease(
    makeManifest(3, first, { canary: { digest: canary.digest, percent: 10 }, note: 'from git' }),
    first,
    canary,
  );
  expect((await fleet.cron()).outcome).toBe('ok');
  await fleet.untilRelease(3);
  expect((await fleet.edge.version()).ruleset).toBe(first.digest);
  const requests = config.takeRequests();
  expect(requests.map(({ path }) => path).sort()).toEqual(
    [
      '/release.json',
      '/release.json.minisig',
      ...[first, canary].flatMap(({ digest }) => [
        `/bundles/${digest}.json`,
        `/bundles/${digest}.json.minisig`,
      ]),
    ].sort(),
  );
  for (const { headers } of requests)
    expect([headers.authorization, headers.cookie]).toEqual([undefined, undefined]);
  const status = await admin.status();
  expect(status.release).toMatchObject({
    serial: 3,
    kind: 'pull',
    release: { active: first.digest, note: 'from git' },
    key: keys.publicKey,
  });
  expect(status.pull).toEqual({
    url_set: true,
    checked: expect.any(Number),
    changed: expect.any(Number),
    problem: null,
  });
  expect(JSON.stringify(status)).not.toContain(config.url);
  const { entries } = await admin.getOk('/audit');
  expect(entries).toContainEqual(
    expect.objectContaining({ actor: 'pull', result: 'ok', subject: expect.stringContaining('3') }),
  );
});

it('an unchanged release needs at most two requests, and no bundle', async () => {
  for (let round = 0; round < 2; round++) {
    expect((await fleet.cron(1)).outcome).toBe('ok');
    const requests = config.takeRequests();
    expect(
      requests.map(({ path, status, conditional }) => [path, status, conditional]),
    ).toContainEqual(['/release.json', 304, true]);
    expect(requests.filter(({ path }) => path.startsWith('/bundles/'))).toEqual([]);
    expect(requests.length).toBeLessThanOrEqual(2);
  }
  expect((await pull()).problem).toBeNull();
});

it('a new release fetches only the bundles that are not stored', async () => {
  config.putRelease(makeManifest(4, second, { shadow: { digest: first.digest } }), second);
  await fleet.cron();
  await fleet.untilRelease(4);
  const bundles = config
    .takeRequests()
    .map(({ path }) => path)
    .filter((path) => path.startsWith('/bundles/'));
  expect(bundles.sort()).toEqual([
    `/bundles/${second.digest}.json`,
    `/bundles/${second.digest}.json.minisig`,
  ]);
});

it('a slow response is read to its end', async () => {
  config.putRelease(makeManifest(4, second, { shadow: { digest: first.digest }, note: 'slowly' }));
  config.faults.set('release.json', (_, res, text = '') => {
    res.writeHead(200, { 'content-type': 'application/json' });
    const parts = text.match(/[^]{1,40}/g)!;
    const timer = setInterval(
      () => (parts.length ? res.write(parts.shift()) : (clearInterval(timer), res.end())),
      150,
    );
  });
  await fleet.cron();
  expect((await pull()).problem).toMatch(/another release 4/);
});

const next = () => makeManifest(5, second, { note: 'would be good' });
const reply =
  (status: number, headers: http.OutgoingHttpHeaders, body: string): FaultHandler =>
  (_, res) =>
    res.writeHead(status, headers).end(body);
const JSON_TYPE = { 'content-type': 'application/json' };

/** Milliseconds after which the registry gives up a pull. Faults must be detected earlier. */
const PULL_TIMEOUT_MS = 40_000;
/** Faults of the server: name, affected file, and handler. */
const FAULTS: [name: string, path: string, handler: FaultHandler][] = [
  ['500', 'release.json', reply(500, JSON_TYPE, '{"error":"no"}')],
  ['503 for the signature', 'release.json.minisig', reply(503, {}, 'later')],
  ['404', 'release.json', reply(404, {}, 'no such file')],
  [
    'a connection that breaks off',
    'release.json',
    (_, res, text = '') => {
      res.writeHead(200, { ...JSON_TYPE, 'content-length': text.length });
      res.write(text.slice(0, 60));
      setTimeout(() => res.destroy(), 100);
    },
  ],
  [
    'a truncated body',
    'release.json',
    (_, res, text = '') => res.writeHead(200, JSON_TYPE).end(text.slice(0, 60)),
  ],
  [
    'a body that never ends',
    'release.json',
    (_, res) => {
      res.writeHead(200, JSON_TYPE);
      const timer = setInterval(() => res.write(' '), 200);
      res.on('close', () => clearInterval(timer));
    },
  ],
  [
    'a fast body that never ends',
    'release.json',
    (_, res) => {
      res.writeHead(200, JSON_TYPE);
      const more = () => {
        while (!res.destroyed && res.write('x'.repeat(1 << 16)));
        if (!res.destroyed) res.once('drain', more);
      };
      more();
    },
  ],
  [
    'an HTML page',
    'release.json',
    reply(200, { 'content-type': 'text/html' }, '<!doctype html><title>Sign in</title>'),
  ],
  ['other JSON', 'release.json', reply(200, JSON_TYPE, '{"hello":"world"}')],
  ['a closed connection', 'release.json', (req) => void req.socket.destroy()],
  ['a redirect', 'release.json', reply(302, { location: '/config/elsewhere.json' }, '')],
];

it.each(FAULTS)('%s is reported, and changes nothing', async (_, path, handler) => {
  config.putRelease(next());
  config.files.set('/elsewhere.json', makeManifest(5, second, { note: 'from elsewhere' }));
  config.faults.set(path, handler);
  const began = performance.now();
  await fleet.cron();
  expect(performance.now() - began).toBeLessThan(PULL_TIMEOUT_MS);
  expect(await pull()).toMatchObject({ problem: expect.stringMatching(/\w{3}/) });
  expect((await admin.getOk('/releases/current')).serial).toBe(4);
  // The registry must not follow redirects, because they could lead to a server without https.
  for (const request of config.takeRequests())
    expect([request.path, request.path !== '/elsewhere.json' && request.bytes < 64 << 20]).toEqual([
      request.path,
      true,
    ]);
});

it('a release whose bundle has another digest or is missing is reported and rejected', async () => {
  const third = makeBundle({ lantern_red: 25 });
  config.putRelease(makeManifest(5, third), third);
  const path = `/bundles/${third.digest}.json`;
  for (const text of [
    third.text.replace('lantern', 'lantorn'),
    third.text.slice(0, 50),
    undefined,
  ]) {
    if (text === undefined) config.files.delete(path);
    else config.files.set(path, text);
    await fleet.cron();
    expect((await pull()).problem).toMatch(/\w/);
    expect((await admin.getOk('/releases/current')).serial).toBe(4);
  }
});

it('releases that are untrusted, expired or older are rejected', async () => {
  const untrusted = signRelease(keyPair(), next());
  config.files
    .set('/release.json', untrusted.text)
    .set('/release.json.minisig', untrusted.signature);
  await fleet.cron();
  expect((await pull()).problem).toMatch(/key/);
  config.putRelease(makeManifest(5, second, { expires: epochSeconds(-2 * DAY) }));
  await fleet.cron();
  expect((await pull()).problem).toMatch(/expired/);
  config.putRelease(makeManifest(2, first));
  await fleet.cron();
  expect((await pull()).problem).toMatch(/\b(2|older|serial)\b/);
  expect((await admin.getOk('/releases/current')).serial).toBe(4);
  const { entries } = await admin.getOk('/audit');
  expect(entries[0]).toMatchObject({ actor: 'pull', result: expect.not.stringMatching(/^ok$/) });
});

it('a server with an older release than the registry is reported', async () => {
  config.putRelease(makeManifest(5, second), second);
  await fleet.cron();
  expect((await pull()).problem).toBeNull();
  const publisher = new Admin(fleet.edges[1]!, ADMIN_TOKEN);
  expect((await publisher.publish(keys, makeManifest(6, second, { note: 'pushed' }))).status).toBe(
    201,
  );
  for (let round = 0; round < 2; round++) {
    await fleet.cron();
    expect((await pull()).problem).toMatch(/release 5 is older than 6/);
  }
  config.putRelease(makeManifest(7, second), second);
  await fleet.cron();
  expect(await pull()).toMatchObject({ problem: null });
  await fleet.untilRelease(7);
});

it('after the faults the next release is adopted, and the problem is cleared', async () => {
  config.putRelease(makeManifest(8, first), first);
  await fleet.cron();
  await fleet.untilRelease(8);
  expect(await pull()).toMatchObject({ problem: null });
  expect(config.takeRequests()).toContainEqual(
    expect.objectContaining({ path: '/release.json', status: 200 }),
  );
});

it('no request failed meanwhile', async () => {
  await traffic.stop();
  expect(traffic.failures).toEqual([]);
  const [embedded] = traffic.rulesets();
  expect(
    traffic
      .rulesets()
      .every((digest) => [embedded, first.digest, second.digest, canary.digest].includes(digest!)),
  ).toBe(true);
});

it('in production, http:// is reported, and the server gets no request', async () => {
  config.putRelease(makeManifest(9, first), first);
  const production = await Fleet.start({
    origin,
    workers: 1,
    vars: {
      PUBLIC_KEYS: keys.publicKey,
      CONFIG_URL: config.url,
      READ_TOKEN,
      ENVIRONMENT: undefined,
    },
  });
  try {
    config.takeRequests();
    await production.cron();
    const reader = new Admin(production.edge, READ_TOKEN);
    await eventually('the problem', async () =>
      expect((await reader.status()).pull.problem).toMatch(/https/),
    );
    expect(config.takeRequests()).toEqual([]);
    expect((await production.edge.version()).release).toBeNull();
  } finally {
    await production.dispose();
  }
});
