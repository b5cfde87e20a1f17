// Outages of KV, the registry and the ledgers: no request fails. Releases that were published
// during an outage reach the isolates after it.
import { beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import {
  Admin,
  ADMIN_TOKEN,
  type Bundle,
  makeBundle,
  makeManifest,
  putRelease,
  putSigned,
  signBundle,
  signRelease,
} from './release-fixtures.ts';
import {
  eventually,
  type Faults,
  Origin,
  sleep,
  throughout,
  until,
  useFleet,
  useOrigin,
  useTraffic,
} from './support.ts';

const keys = keyPair();
const origin = useOrigin(Origin.ok);
const fleet = useFleet({
  origin,
  workers: 2,
  faults: true,
  vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN },
});
const admin = new Admin(fleet.edge, ADMIN_TOKEN);

let serial = 0;
/** The bundle of the newest release. */
let newest: Bundle;
const digests = new Set<string>();

/** Publishes a release with a new bundle, which becomes `newest`. */
async function publish() {
  newest = makeBundle({ lantern_red: 20 + (serial % 10) });
  digests.add(newest.digest);
  await admin.release(keys, ++serial, newest);
}

beforeAll(async () => {
  await publish();
  await fleet.untilRelease(1);
});
const traffic = useTraffic(fleet.edges);

const UP: Faults = { read: null, write: null, registry: null, ledger: null };
const OUTAGES: [name: string, faults: Faults][] = [
  ['everything throws', { read: 'throw', write: 'throw', registry: 'throw', ledger: 'throw' }],
  ['everything hangs', { read: 'hang', write: 'hang', registry: 'hang', ledger: 'hang' }],
  ['KV returns truncated values', { read: 'half' }],
];

describe.each(OUTAGES)('%s', (_, faults) => {
  it('no request fails, and the next release arrives afterwards', async () => {
    const { digest } = newest;
    // Waits until requests that began before the release was adopted have ended.
    await traffic.untilResponses(2);
    const [began, count] = [performance.now(), traffic.responses.length];
    await fleet.setFaults(faults);
    // Isolates poll and report every second, so they do both in these two seconds of the outage.
    await sleep(2000);
    await until('responses during the outage', () => traffic.responses.length - count > 20);
    expect(traffic.rulesets(began)).toEqual([digest]);
    expect(Math.max(...traffic.responses.slice(count).map(({ ms }) => ms))).toBeLessThan(2000);
    if (faults.registry === 'throw') {
      const { status, body } = await admin.get('/releases');
      expect([status, body.error]).toEqual([
        503,
        { code: 'unavailable', message: expect.any(String), remedy: expect.any(String) },
      ]);
    }
    await fleet.setFaults(UP);
    await publish();
    await fleet.untilRelease(serial);
    for (const edge of fleet.edges) expect((await edge.ask()).ruleset).toBe(newest.digest);
    expect(traffic.failures).toEqual([]);
  });
});

it('an isolate that starts while KV fails uses the embedded rules until KV is back', async () => {
  await traffic.stop();
  await fleet.restart();
  await fleet.setFaults({ read: 'throw' });
  for (const edge of fleet.edges) {
    const { status, ruleset } = await edge.ask();
    expect([status, digests.has(ruleset!)]).toEqual([200, false]);
  }
  await fleet.setFaults(UP);
  await fleet.untilRelease(serial);
});

it('a release that KV rejects is reported, retried and published afterwards', async () => {
  await fleet.setFaults({ write: 'throw' });
  const next = makeBundle({ lantern_red: 33 });
  expect((await admin.upload(keys, next)).status).toBeOneOf([200, 201]);
  const { status, body } = await admin.publish(keys, makeManifest(++serial, next));
  expect([status, body]).toEqual([
    202,
    { serial, published: false, problem: expect.stringMatching(/KV/), stopped: false },
  ]);
  expect((await admin.status()).publication).toEqual({
    serial: serial - 1,
    pending: serial,
    attempts: expect.any(Number),
    problem: expect.stringMatching(/KV/),
  });
  expect(await admin.getOk('/releases/current')).toMatchObject({ serial, published: null });
  for (const edge of fleet.edges) expect((await edge.ask()).ruleset).toBe(newest.digest);
  await fleet.setFaults(UP);
  await eventually(
    'the publication',
    async () =>
      expect((await admin.status()).publication).toEqual({
        serial,
        pending: null,
        attempts: expect.any(Number),
        problem: null,
      }),
  );
  await fleet.untilRelease(serial);
  expect((await fleet.edge.ask()).ruleset).toBe(next.digest);
  expect((await admin.getOk('/releases/current')).published).toBeGreaterThan(0);
  const { entries } = await admin.getOk('/audit?limit=100');
  const isWriteToKv = ({ action, actor }: { action: string; actor: string }) =>
    action === 'kv' && actor === 'registry';
  expect(entries.some(isWriteToKv)).toBe(true);
});

it('a release that KV rejected is published after a restart', async () => {
  await fleet.setFaults({ write: 'throw' });
  expect((await admin.publish(keys, makeManifest(++serial, newest))).status).toBe(202);
  await fleet.restart();
  await eventually(
    'the publication',
    async () => expect((await admin.status()).publication).toMatchObject({ serial, pending: null }),
  );
  await fleet.untilRelease(serial);
});

// The maintenance compared only published releases with KV: without an alarm, nothing published
// this release.
it('the maintenance publishes a release for which the alarm could not be set', async () => {
  await fleet.setFaults({ write: 'throw', registryAlarm: 'throw' });
  expect((await admin.publish(keys, makeManifest(++serial, newest))).status).toBe(202);
  // Sets the clock to a time at which the alarm would have run.
  await fleet.setFaults({ ...UP, clock: 60_000 });
  expect((await admin.status()).publication).toMatchObject({ pending: serial });
  await fleet.cron();
  await eventually(
    'the publication',
    async () => expect((await admin.status()).publication).toMatchObject({ serial, pending: null }),
  );
  await fleet.setFaults({ registryAlarm: null, clock: 0 });
  await fleet.untilRelease(serial);
});

it('a publication aborted while KV hangs does not block the next one', async () => {
  await fleet.setFaults({ write: 'hang' });
  const writes = async () => Object.values((await fleet.stats()).writes).flat().length;
  const before = await writes();
  const release = makeManifest(++serial, newest);
  const abort = new AbortController();
  const call = fetch(`${fleet.edge.url}/_hedgerow/v1/releases`, {
    method: 'POST',
    signal: abort.signal,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    body: JSON.stringify({ release, signature: signRelease(keys, release).signature }),
  });
  await eventually('a write to KV', async () => expect(await writes()).toBeGreaterThan(before));
  abort.abort();
  await expect(call).rejects.toThrow();
  // Waits a fixed time, because a test cannot observe that the registry has noticed the abort.
  await sleep(200);
  await fleet.setFaults(UP);
  const { status, body } = await admin.publish(keys, makeManifest(++serial, newest));
  expect([status, body]).toEqual([
    201,
    { serial, published: true, problem: null, stopped: false },
  ]);
  await fleet.untilRelease(serial);
});

it('of fast releases the last is published, with one write per key and second', async () => {
  for (let number = 0; number < 5; number++)
    expect(
      (await admin.publish(keys, makeManifest(++serial, newest, { note: `${number}` }))).status,
    ).toBeOneOf([201, 202]);
  await eventually(
    'the last publication',
    async () =>
      expect((await admin.status()).publication).toMatchObject({
        serial,
        pending: null,
        problem: null,
      }),
  );
  const { writes } = await fleet.stats();
  const stored = (await (await fleet.kv()).getWithMetadata('release')).value!;
  expect(JSON.parse(stored).serial).toBe(serial);
  expect(writes.release!.length).toBeGreaterThan(1);
  for (const [key, times] of Object.entries(writes)) {
    const gaps = times.slice(1).map((time, index) => time - times[index]!);
    // The limit is below 1,000 ms, because the registry and the store read the clock at different
    // moments.
    expect(
      gaps.filter((gap) => gap < 990),
      key,
    ).toEqual([]);
  }
  await fleet.untilRelease(serial);
});

it('the registry restores keys of KV that others wrote or deleted', async () => {
  const kv = await fleet.kv();
  const stored = async () =>
    JSON.parse((await kv.getWithMetadata('release')).value ?? 'null')?.serial;
  await fleet.setFaults({ clock: 300_000 });
  const bundle = async () => (await kv.getWithMetadata(`bundle/${newest.digest}`)).value;
  const damages = [
    () => putRelease(kv, keys, makeManifest(serial - 1, newest)),
    () => kv.delete('release'),
    () => kv.delete(`bundle/${newest.digest}`),
    () =>
      putSigned(kv, `bundle/${newest.digest}`, {
        text: `${newest.text} `,
        signature: signBundle(keys, newest).signature,
      }),
    () => kv.put(`bundle/${newest.digest}`, newest.text, {}),
  ];
  for (const [number, damage] of damages.entries()) {
    // The registry checks bundles only in every tenth minute. Sets the clock to the middle of such
    // a minute.
    const now = Date.now();
    await fleet.setFaults({
      clock: (Math.ceil(now / 600_000) + number + 1) * 600_000 + 30_000 - now,
    });
    const before = (await admin.getOk('/audit')).entries.length;
    await damage();
    await fleet.cron();
    await eventually(`the repair of damage ${number}`, async () => {
      expect([await stored(), await bundle()]).toEqual([serial, newest.text]);
      expect((await admin.getOk('/audit')).entries.length).toBeGreaterThan(before);
    });
  }
  const { entries } = await admin.getOk('/audit');
  for (const result of ['KV had another release', 'KV did not have all bundles of the release']) {
    expect(entries).toContainEqual(
      expect.objectContaining({ actor: 'registry', action: 'kv', result }),
    );
  }
  await fleet.setFaults({ clock: 0 });
});

it('an older release that others wrote to KV is not adopted', async () => {
  await putRelease(await fleet.kv(), keys, makeManifest(serial - 1, newest));
  // Waits until every isolate has polled KV.
  await throughout(1500, async () => {
    for (const edge of fleet.edges) {
      await edge.ask();
      expect((await edge.version()).release).toBe(serial);
    }
  });
});
