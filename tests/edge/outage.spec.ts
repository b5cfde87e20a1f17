// KV, the registry or the ledgers are gone: requests do not notice, and what was published meanwhile arrives when they are back.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, type Bundle, bundleOf, plant, putSigned, releaseOf, signBundle, signRelease } from './release.ts';
import { eventually, type Faults, Fleet, Origin, sleep, Traffic } from './support.ts';

const keys = keyPair();
const TOKEN = 'publish-token-of-the-tests';

let origin: Origin;
let fleet: Fleet;
let admin: Admin;
let traffic: Traffic;
let serial = 0;
let last: Bundle;
const bundles = new Map<string, Bundle>();

/** A release of a bundle of its own. */
async function publish() {
  last = bundleOf({ lantern_red: 20 + (serial % 10) });
  bundles.set(last.digest, last);
  await admin.release(keys, ++serial, last);
}

beforeAll(async () => {
  origin = await Origin.start();
  origin.answer = Origin.ok;
  fleet = await Fleet.start({ origin, workers: 2, faults: true, vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN } });
  admin = new Admin(fleet.edge.url, TOKEN);
  await publish();
  await fleet.everywhere(1);
  traffic = new Traffic(fleet.edges);
});
afterAll(async () => {
  await traffic?.stop();
  await fleet?.dispose();
  await origin?.close();
});

const UP: Faults = { read: null, write: null, registry: null, ledger: null };
const OUTAGES: [name: string, faults: Faults][] = [
  ['everything throws', { read: 'throw', write: 'throw', registry: 'throw', ledger: 'throw' }],
  ['everything hangs', { read: 'hang', write: 'hang', registry: 'hang', ledger: 'hang' }],
  ['KV gives half of what it has', { read: 'half' }],
];

describe.each(OUTAGES)('%s', (_, faults) => {
  it('no request fails, all go by the last good rules, and the next release arrives afterwards', async () => {
    const { digest } = last;
    await sleep(100);
    const [began, count] = [performance.now(), traffic.answers.length];
    await fleet.fault(faults);
    await sleep(2000);
    expect(traffic.answers.length - count).toBeGreaterThan(20);
    expect(traffic.rulesets(began)).toEqual([digest]);
    expect(Math.max(...traffic.answers.slice(count).map(({ ms }) => ms))).toBeLessThan(2000);
    if (faults.registry === 'throw') {
      const { status, body } = await admin.get('/releases');
      expect([status, body.error]).toEqual([503, { code: 'unavailable', message: expect.any(String), remedy: expect.any(String) }]);
    }
    await fleet.fault(UP);
    await publish();
    await fleet.everywhere(serial);
    for (const edge of fleet.edges) expect((await edge.ask()).ruleset).toBe(last.digest);
    expect(traffic.failures).toEqual([]);
  });
});

it('an isolate that starts while KV is gone serves the embedded rules, and takes the release when KV is back', async () => {
  await traffic.stop();
  await fleet.stop();
  await fleet.start();
  admin = new Admin(fleet.edge.url, TOKEN);
  await fleet.fault({ read: 'throw' });
  for (const edge of fleet.edges) {
    const answer = await edge.ask();
    expect([answer.status, bundles.has(answer.ruleset!)]).toEqual([200, false]);
  }
  await fleet.fault(UP);
  await fleet.everywhere(serial);
});

it('what KV does not take is told, tried again, and published when it can be', async () => {
  const before = last;
  await fleet.fault({ write: 'throw' });
  const next = bundleOf({ lantern_red: 33 });
  // Uploading may tell or not that KV has no copy yet; it is stored.
  expect((await admin.upload(keys, next)).status).toBeOneOf([200, 201]);
  const { status, body } = await admin.publish(keys, releaseOf(++serial, next));
  expect([status, body]).toEqual([202, { serial, published: false, problem: expect.stringMatching(/KV/) }]);
  expect((await admin.status()).publication).toEqual({ serial: serial - 1, pending: serial, attempts: expect.any(Number), problem: expect.stringMatching(/KV/) });
  expect(await admin.got('/releases/current')).toMatchObject({ serial, published: null });
  for (const edge of fleet.edges) expect((await edge.ask()).ruleset).toBe(before.digest);
  await fleet.fault(UP);
  await eventually('the publication', async () => expect((await admin.status()).publication).toEqual({ serial, pending: null, attempts: expect.any(Number), problem: null }), 25_000);
  await fleet.everywhere(serial);
  expect((await fleet.edge.ask()).ruleset).toBe(next.digest);
  expect((await admin.got('/releases/current')).published).toBeGreaterThan(0);
  const { entries } = await admin.got('/audit?limit=100');
  expect(entries.filter(({ what, who }: { what: string; who: string }) => what === 'kv' && who === 'registry').length).toBeGreaterThan(0);
});

it('a release that KV did not take is published after a restart, too', async () => {
  await fleet.fault({ write: 'throw' });
  expect((await admin.publish(keys, releaseOf(++serial, last))).status).toBe(202);
  await fleet.stop();
  await fleet.start();
  admin = new Admin(fleet.edge.url, TOKEN);
  await eventually('the publication', async () => expect((await admin.status()).publication).toMatchObject({ serial, pending: null }), 25_000);
  await fleet.everywhere(serial);
});

it('a publisher who hangs up while KV hangs is in nobody’s way', async () => {
  await fleet.fault({ write: 'hang' });
  const release = releaseOf(++serial, last);
  const gone = new AbortController();
  const call = fetch(`${fleet.edge.url}/_hedgerow/v1/releases`, { method: 'POST', signal: gone.signal, headers: { authorization: `Bearer ${TOKEN}` }, body: JSON.stringify({ release, signature: signRelease(keys, release).signature }) });
  await sleep(500);
  gone.abort();
  await expect(call).rejects.toThrow();
  await sleep(200);
  await fleet.fault(UP);
  const { status, body } = await admin.publish(keys, releaseOf(++serial, last));
  expect([status, body]).toEqual([201, { serial, published: true, problem: null }]);
  await fleet.everywhere(serial);
});

it('no key is written more than once a second, however fast releases come; the last one wins', async () => {
  for (let number = 0; number < 5; number++) expect((await admin.publish(keys, releaseOf(++serial, last, { note: `${number}` }))).status).toBeOneOf([201, 202]);
  await eventually('the last publication', async () => expect((await admin.status()).publication).toMatchObject({ serial, pending: null, problem: null }), 25_000);
  const { writes } = await fleet.witness();
  const stored = (await (await fleet.kv()).getWithMetadata('release')).value!;
  expect(JSON.parse(stored).serial).toBe(serial);
  expect(writes.release!.length).toBeGreaterThan(1);
  for (const [key, times] of Object.entries(writes)) {
    const gaps = times.slice(1).map((time, index) => time - times[index]!);
    // A clock tick of leeway: both are read, not measured.
    expect(gaps.filter((gap) => gap < 990), key).toEqual([]);
  }
  await fleet.everywhere(serial);
});

it('what somebody else wrote into KV, or took out of it, the registry puts right', async () => {
  const kv = await fleet.kv();
  const stored = async () => JSON.parse((await kv.getWithMetadata('release')).value ?? 'null')?.serial;
  await fleet.fault({ clock: 300_000 });
  const bundle = async () => (await kv.getWithMetadata(`bundle/${last.digest}`)).value;
  const harms = [
    () => plant(kv, keys, releaseOf(serial - 1, last)),
    () => kv.delete('release'),
    () => kv.delete(`bundle/${last.digest}`),
    () => putSigned(kv, `bundle/${last.digest}`, { text: `${last.text} `, signature: signBundle(keys, last).signature }),
    () => kv.put(`bundle/${last.digest}`, last.text, {}),
  ];
  for (const [number, harm] of harms.entries()) {
    // Bundles are looked at in each tenth minute: at the middle of one.
    const now = Date.now();
    await fleet.fault({ clock: (Math.ceil(now / 600_000) + number + 1) * 600_000 + 30_000 - now });
    const whole = [serial, last.text];
    const before = (await admin.got('/audit')).entries.length;
    await harm();
    await fleet.cron();
    await eventually(`harm ${number} is undone`, async () => {
      expect([await stored(), await bundle()]).toEqual(whole);
      expect((await admin.got('/audit')).entries.length).toBeGreaterThan(before);
    });
  }
  const { entries } = await admin.got('/audit');
  for (const result of ['KV had another release', 'KV had not all bundles of the release']) {
    expect(entries).toContainEqual(expect.objectContaining({ who: 'registry', what: 'kv', result }));
  }
  await fleet.fault({ clock: 0 });
});

it('what somebody else wrote into KV does not undo what the registry knows', async () => {
  await plant(await fleet.kv(), keys, releaseOf(serial - 1, last));
  for (const edge of fleet.edges) await edge.ask();
  await sleep(1500);
  for (const edge of fleet.edges) {
    await edge.ask();
    expect((await edge.version()).release).toBe(serial);
  }
});
