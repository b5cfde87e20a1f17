// Rules from a server of the operator's, fetched by cron: no token, no API, and nothing that such a server can do wrong reaches a client.
import type http from 'node:http';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { Config, type Reply } from './config.ts';
import { keyPair } from './minisign.ts';
import { Admin, bundleOf, DAY, releaseOf, seconds, signRelease } from './release.ts';
import { eventually, Fleet, Origin, sleep, Traffic } from './support.ts';

const keys = keyPair();
const READ = 'read-token-of-the-tests';
const PUBLISH = 'publish-token-of-the-tests';

const first = bundleOf({ lantern_red: 22 });
const second = bundleOf({ lantern_red: 23 });
const canary = bundleOf({ lantern_red: 24 });

let origin: Origin;
let config: Config;
let fleet: Fleet;
/** The second isolate alone has tokens: the first shows that none is needed. */
let admin: Admin;
let traffic: Traffic;
beforeAll(async () => {
  origin = await Origin.start();
  origin.answer = Origin.ok;
  config = await Config.start(keys);
  fleet = await Fleet.start({ origin, edges: [{}, { vars: { READ_TOKEN: READ, ADMIN_TOKEN: PUBLISH } }], vars: { PUBLIC_KEYS: keys.publicKey, CONFIG_URL: config.url } });
  admin = new Admin(fleet.edges[1]!.url, READ);
  // A server that never comes to an end is waited for, but not by a test.
  await fleet.fault({ haste: 10 });
  traffic = new Traffic(fleet.edges, 50);
});
afterAll(async () => {
  await traffic?.stop();
  await fleet?.dispose();
  await config?.close();
  await origin?.close();
});
beforeEach(() => {
  config.odd.clear();
  config.take();
});

const pull = async () => (await admin.status()).pull;
const paths = () => config.take().map(({ path, status }) => `${status} ${path}`);

it('there is no API without a token', async () => {
  const { status, body } = await new Admin(fleet.edge.url, READ).get('/status');
  const unknown = await (await fetch(`${fleet.edge.url}/_hedgerow/unknown`)).json();
  expect([status, body]).toEqual([404, unknown]);
});

it('cron fetches a release and its bundles, and isolates have it', async () => {
  config.put(releaseOf(3, first, { canary: { digest: canary.digest, percent: 10 }, note: 'from git' }), first, canary);
  expect((await fleet.cron()).outcome).toBe('ok');
  await fleet.everywhere(3);
  expect((await fleet.edge.version()).ruleset).toBe(first.digest);
  const asked = config.take();
  expect(asked.map(({ path }) => path).sort()).toEqual(['/release.json', '/release.json.minisig', ...[first, canary].flatMap(({ digest }) => [`/bundles/${digest}.json`, `/bundles/${digest}.json.minisig`])].sort());
  for (const { headers } of asked) expect([headers.authorization, headers.cookie]).toEqual([undefined, undefined]);
  const status = await admin.status();
  expect(status.release).toMatchObject({ serial: 3, kind: 'pull', release: { active: first.digest, note: 'from git' }, key: keys.publicKey });
  expect(status.pull).toEqual({ url_set: true, checked: expect.any(Number), changed: expect.any(Number), problem: null });
  expect(JSON.stringify(status)).not.toContain(config.url);
  const { entries } = await admin.got('/audit');
  expect(entries).toContainEqual(expect.objectContaining({ who: 'pull', result: 'ok', subject: expect.stringContaining('3') }));
});

it('what has not changed costs one conditional request, and no bundle', async () => {
  for (let time = 0; time < 2; time++) {
    expect((await fleet.cron(1)).outcome).toBe('ok');
    const asked = config.take();
    expect(asked.map(({ path, status, conditional }) => [path, status, conditional])).toContainEqual(['/release.json', 304, true]);
    expect(asked.filter(({ path }) => path.startsWith('/bundles/'))).toEqual([]);
    expect(asked.length).toBeLessThanOrEqual(2);
  }
  expect((await pull()).problem).toBeNull();
});

it('a new release of bundles that are stored fetches none of them again', async () => {
  config.put(releaseOf(4, second, { shadow: { digest: first.digest } }), second);
  await fleet.cron();
  await fleet.everywhere(4);
  const bundles = config.take().map(({ path }) => path).filter((path) => path.startsWith('/bundles/'));
  expect(bundles.sort()).toEqual([`/bundles/${second.digest}.json`, `/bundles/${second.digest}.json.minisig`]);
});

it('a server that drips is waited for', async () => {
  const slow = releaseOf(4, second, { shadow: { digest: first.digest }, note: 'slowly' });
  config.put(slow);
  config.odd.set('release.json', (_, res, text = '') => {
    res.writeHead(200, { 'content-type': 'application/json' });
    const parts = text.match(/[^]{1,40}/g)!;
    const timer = setInterval(() => (parts.length ? res.write(parts.shift()) : (clearInterval(timer), res.end())), 150);
  });
  await fleet.cron();
  expect((await pull()).problem).toMatch(/another release 4/);
});

const next = () => releaseOf(5, second, { note: 'would be good' });
const reply = (status: number, headers: http.OutgoingHttpHeaders, body: string): Reply => (_, res) => res.writeHead(status, headers).end(body);
const JSON_TYPE = { 'content-type': 'application/json' };

/** What a server may do wrong: to which file, and how. */
const WRONG: [name: string, path: string, answer: Reply][] = [
  ['500', 'release.json', reply(500, JSON_TYPE, '{"error":"no"}')],
  ['503 for the signature', 'release.json.minisig', reply(503, {}, 'later')],
  ['404', 'release.json', reply(404, {}, 'no such file')],
  ['a body that breaks off', 'release.json', (_, res, text = '') => {
    res.writeHead(200, { ...JSON_TYPE, 'content-length': text.length });
    res.write(text.slice(0, 60));
    setTimeout(() => res.destroy(), 100);
  }],
  ['half a body', 'release.json', (_, res, text = '') => res.writeHead(200, JSON_TYPE).end(text.slice(0, 60))],
  ['a body that never ends', 'release.json', (_, res) => {
    res.writeHead(200, JSON_TYPE);
    const timer = setInterval(() => res.write(' '), 200);
    res.on('close', () => clearInterval(timer));
  }],
  ['a body without end, fast', 'release.json', (_, res) => {
    res.writeHead(200, JSON_TYPE);
    const more = () => {
      while (!res.destroyed && res.write('x'.repeat(1 << 16)));
      if (!res.destroyed) res.once('drain', more);
    };
    more();
  }],
  ['a page', 'release.json', reply(200, { 'content-type': 'text/html' }, '<!doctype html><title>Sign in</title>')],
  ['something else', 'release.json', reply(200, JSON_TYPE, '{"hello":"world"}')],
  ['no answer at all', 'release.json', (req) => void req.socket.destroy()],
  ['a redirect', 'release.json', reply(302, { location: '/config/elsewhere.json' }, '')],
];

it.each(WRONG)('%s is told, and changes nothing', async (_, path, answer) => {
  config.put(next());
  config.files.set('/elsewhere.json', releaseOf(5, second, { note: 'from elsewhere' }));
  config.odd.set(path, answer);
  const began = performance.now();
  await fleet.cron();
  expect(performance.now() - began).toBeLessThan(15_000);
  expect(await pull()).toMatchObject({ problem: expect.stringMatching(/\w{3}/) });
  expect((await admin.got('/releases/current')).serial).toBe(4);
  // Nor is a redirect followed: it could lead away from https.
  for (const { bytes, path: asked } of config.take()) expect([asked, asked !== '/elsewhere.json' && bytes < 64 << 20]).toEqual([asked, true]);
});

it('a bundle that is not what the release names is told, and nothing of that release is taken', async () => {
  const third = bundleOf({ lantern_red: 25 });
  config.put(releaseOf(5, third), third);
  const path = `/bundles/${third.digest}.json`;
  for (const text of [third.text.replace('lantern', 'lantorn'), third.text.slice(0, 50), undefined]) {
    if (text === undefined) config.files.delete(path);
    else config.files.set(path, text);
    await fleet.cron();
    expect((await pull()).problem).toMatch(/\w/);
    expect((await admin.got('/releases/current')).serial).toBe(4);
  }
});

it('releases that nobody may make are refused: unknown key, expired, older', async () => {
  const stranger = signRelease(keyPair(), next());
  config.files.set('/release.json', stranger.text).set('/release.json.minisig', stranger.signature);
  await fleet.cron();
  expect((await pull()).problem).toMatch(/key/);
  config.put(releaseOf(5, second, { expires: seconds(-2 * DAY) }));
  await fleet.cron();
  expect((await pull()).problem).toMatch(/expired/);
  config.put(releaseOf(2, first));
  await fleet.cron();
  expect((await pull()).problem).toMatch(/\b(2|older|serial)\b/);
  expect((await admin.got('/releases/current')).serial).toBe(4);
  const { entries } = await admin.got('/audit');
  expect(entries[0]).toMatchObject({ who: 'pull', result: expect.not.stringMatching(/^ok$/) });
});

it('what was pushed meanwhile leaves the server behind, and that is told as long as it is so', async () => {
  config.put(releaseOf(5, second), second);
  await fleet.cron();
  expect((await pull()).problem).toBeNull();
  const publisher = new Admin(fleet.edges[1]!.url, PUBLISH);
  expect((await publisher.publish(keys, releaseOf(6, second, { note: 'pushed' }))).status).toBe(201);
  for (let round = 0; round < 2; round++) {
    await fleet.cron();
    expect((await pull()).problem).toMatch(/release 5 is older than 6/);
  }
  config.put(releaseOf(7, second), second);
  await fleet.cron();
  expect(await pull()).toMatchObject({ problem: null });
  await fleet.everywhere(7);
});

it('when the server is right again its release arrives, and the problem is gone', async () => {
  config.put(releaseOf(8, first), first);
  await fleet.cron();
  await fleet.everywhere(8);
  expect(await pull()).toMatchObject({ problem: null });
  expect(paths()).toContain('200 /release.json');
});

it('none of it cost a client anything', async () => {
  await traffic.stop();
  expect(traffic.failures).toEqual([]);
  const [embedded] = traffic.rulesets();
  expect(traffic.rulesets().every((digest) => [embedded, first.digest, second.digest, canary.digest].includes(digest!))).toBe(true);
});

it('http:// is for development: a deployment does not ask such a server', async () => {
  config.put(releaseOf(9, first), first);
  const production = await Fleet.start({ origin, workers: 1, vars: { PUBLIC_KEYS: keys.publicKey, CONFIG_URL: config.url, READ_TOKEN: READ, ENVIRONMENT: undefined } });
  try {
    config.take();
    await production.cron();
    await sleep(300);
    expect(config.take()).toEqual([]);
    const reader = new Admin(production.edge.url, READ);
    await eventually('the problem', async () => expect((await reader.status()).pull.problem).toMatch(/https/));
    expect((await production.edge.version()).release).toBeNull();
  } finally {
    await production.dispose();
  }
});
