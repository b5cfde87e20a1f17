// Releases and rollbacks reach every isolate under load, and no request fails.
import { beforeAll, expect, it } from 'vitest';
import { keyPair, minisign, verifies } from './minisign.ts';
import {
  Admin,
  ADMIN_TOKEN,
  EMBEDDED,
  makeBundle,
  makeManifest,
  phrase,
  putRelease,
  signature,
} from './release-fixtures.ts';
import {
  eventually,
  Fleet,
  Origin,
  sleep,
  throughout,
  useFleet,
  useOrigin,
  useTraffic,
} from './support.ts';

const keys = keyPair();
const VARS = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN };
/** To measure the default: `REFRESH_SECONDS=10 vitest run tests/edge/release.spec.ts`. */
const REFRESH_SECONDS = Number(process.env.REFRESH_SECONDS ?? 1);
/**
 * Seconds, in addition to REFRESH_SECONDS, within which all isolates must use a new release. This
 * leaves time for two requests: the first polls KV, and the second is scored by the new release.
 */
const MARGIN_SECONDS = 2;

/**
 * Returns options of isolates without correlators. Correlators also poll KV, and the tests count
 * only the reads of isolates.
 */
const edges = (count: number) =>
  Array.from({ length: count }, () => ({ without: ['CORRELATOR' as const] }));

const origin = useOrigin(Origin.ok);
const fleet = useFleet({
  origin,
  edges: edges(3),
  vars: { ...VARS, REFRESH_SECONDS: String(REFRESH_SECONDS) },
});
const admin = new Admin(fleet.edge, ADMIN_TOKEN);
const traffic = useTraffic(fleet.edges);
let embedded: string;
beforeAll(async () => {
  embedded = (await fleet.edge.version()).ruleset;
  await traffic.untilResponses(5);
});

const first = makeBundle({ lantern_red: 22 });
const second = makeBundle({ lantern_red: 22, ferry_slow: 9 });

/** Publishes a release, and checks how long isolates still decide by other rules. */
async function expectAdoption(publish: () => Promise<unknown>, serial: number, digest: string) {
  await publish();
  const began = performance.now();
  await fleet.untilRelease(serial);
  for (const [number, edge] of fleet.edges.entries()) {
    expect(await edge.version()).toMatchObject({ release: serial, ruleset: digest });
    expect((await edge.ask()).ruleset, `edge ${number}`).toBe(digest);
  }
  // The delay that clients observe: the time until the last decision by other rules.
  const others = traffic.responses.filter(({ ruleset, at }) => ruleset !== digest && at > began);
  const seconds = Math.max(0, ...others.map(({ at }) => at - began)) / 1000;
  console.log(
    `release ${serial}: ${fleet.edges.length} isolates adopt it after ${seconds.toFixed(2)} s ` +
      `(REFRESH_SECONDS=${REFRESH_SECONDS})`,
  );
  // Longest gap between responses of each isolate. On a busy machine, an isolate can be without
  // processor time, and cannot adopt a release then.
  const stalls = fleet.edges.map((_, number) => {
    const times = traffic.responses.filter(({ edge }) => edge === number).map(({ at }) => at);
    return Math.max(0, ...times.slice(1).map((at, i) => at - times[i]!)) / 1000;
  });
  expect(seconds).toBeLessThan(REFRESH_SECONDS + MARGIN_SECONDS + Math.max(...stalls));
  // Skips one response of each isolate, because its request may have begun before the adoption.
  await traffic.untilResponses(1);
  expect(traffic.rulesets(await traffic.untilResponses(5))).toEqual([digest]);
}

it('the test’s implementation verifies a signature of minisign', () => {
  // Key and signature from the tests of rust-minisign-verify.
  const key = 'RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3';
  const signature = `untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==`;
  expect([
    verifies(key, 'test', signature),
    verifies(key, 'Test', signature),
    verifies(key, 'test', signature.replace('file:test', 'file:text')),
  ]).toEqual([true, false, false]);
  expect(verifies(keys.publicKey, 'test', minisign(keys, 'test', 'hedgerow release 1'))).toBe(true);
});

it('before the first release the embedded rules decide', async () => {
  for (const edge of fleet.edges) {
    expect((await edge.version()).release).toBeNull();
    const { status, ruleset } = await edge.ask();
    expect([status, ruleset]).toEqual([200, embedded]);
  }
  const decision = await fleet.edge.decision(await fleet.edge.ask());
  expect(decision).toMatchObject({ release: null, rules: 'embedded', ruleset: embedded });
});

it('the first release reaches every isolate', async () => {
  await expectAdoption(() => admin.release(keys, 1, first), 1, first.digest);
  const response = await fleet.edge.ask(`Please: ${phrase('lantern_red')}.`);
  expect(await fleet.edge.decision(response)).toMatchObject({
    release: 1,
    rules: 'active',
    ruleset: first.digest,
    band: 'suspect',
    hits: [{ name: 'lantern_red', weight: 22 }],
  });
});

it('the next release reaches every isolate', () =>
  expectAdoption(() => admin.release(keys, 2, second), 2, second.digest));

it('a rollback reaches every isolate', async () => {
  await expectAdoption(
    async () =>
      expect((await admin.publish(keys, makeManifest(3, first), 'rollback')).status).toBe(201),
    3,
    first.digest,
  );
  expect(await admin.getOk('/releases/current')).toMatchObject({
    serial: 3,
    kind: 'rollback',
    release: { active: first.digest },
  });
});

it('a rollback to the embedded rules reaches every isolate', () =>
  expectAdoption(
    async () =>
      expect((await admin.publish(keys, makeManifest(4, EMBEDDED), 'rollback')).status).toBe(201),
    4,
    embedded,
  ));

it('no request failed meanwhile, and no other ruleset decided', async () => {
  await traffic.stop();
  expect(traffic.failures).toEqual([]);
  expect(traffic.responses.length).toBeGreaterThan(100);
  const known = [embedded, first.digest, second.digest];
  expect(traffic.responses.filter(({ ruleset }) => !known.includes(ruleset!))).toEqual([]);
  // Each isolate changes its ruleset only once: it never returns to the previous ruleset.
  for (const number of fleet.edges.keys()) {
    const changes = traffic.responses
      .filter(({ edge }) => edge === number)
      .map(({ ruleset }) => ruleset)
      .filter((ruleset, index, all) => ruleset !== all[index - 1]);
    expect(changes).toEqual([embedded, first.digest, second.digest, first.digest, embedded]);
  }
  await eventually('the log lines', async () => {
    const events = fleet.logLines('hedgerow.rules').map(({ event }) => event);
    expect(events).toEqual(Array(4 * fleet.edges.length).fill('adopted'));
  });
});

it('new isolates adopt the release', async () => {
  await fleet.restart();
  await fleet.untilRelease(4);
});

// Regression: compiling a hundred regexes takes longer than the first request of an isolate waits.
// As a result, the embedded rules decided all requests of short-lived isolates.
it('the release decides the first request of an isolate', async () => {
  const many = makeBundle(
    {},
    {
      signatures: Array.from({ length: 100 }, (_, number) =>
        signature(`regex_${number}`, 1, {
          regex: {
            pattern: `hedge [a-z ]{1,99}row${number}`,
            required_literals: [{ alternatives: ['hedge'], min_distance: 0 }],
          },
        }),
      ),
    },
  );
  await admin.release(keys, 5, many);
  await fleet.untilRelease(5);
  await fleet.restart();
  for (const edge of fleet.edges) expect((await edge.ask()).ruleset).toBe(many.digest);
});

it('a release with an invalid regex is withdrawn soon after the first request', async () => {
  const broken = makeBundle(
    { lantern_red: 22 },
    {
      signatures: [
        signature('broken_regex', 20, {
          regex: {
            pattern: 'hedge(',
            required_literals: [{ alternatives: ['hedge'], min_distance: 0 }],
          },
        }),
      ],
    },
  );
  const fleet = await Fleet.start({
    origin,
    edges: edges(1),
    vars: { ...VARS, REFRESH_SECONDS: '0' },
  });
  try {
    await putRelease(await fleet.kv(), keys, makeManifest(3, broken), broken);
    expect((await fleet.edge.ask(`a hedge`)).status).toBe(200);
    await eventually('the embedded rules', async () => {
      const { status, ruleset } = await fleet.edge.ask('a hedge');
      expect([status, ruleset]).toEqual([200, embedded]);
      const health = (await (await fleet.edge.health()).json()) as { rejection: string };
      expect(health.rejection).toMatch(/'hedge\(' does not compile/);
    });
    // The isolate tries again after one second, and must neither adopt the release nor log
    // anything.
    await throughout(1_500, async () =>
      expect((await fleet.edge.ask('a hedge')).ruleset).toBe(embedded),
    );
    expect(fleet.logLines('hedgerow.rules').map(({ event }) => event)).toEqual([
      'adopted',
      'rejected',
    ]);
    await putRelease(await fleet.kv(), keys, makeManifest(4, first), first);
    await fleet.untilRelease(4);
  } finally {
    await fleet.dispose();
  }
});

it('isolates poll KV every REFRESH_SECONDS, and allow KV to answer from its cache', async () => {
  const fleet = await Fleet.start({
    origin,
    edges: edges(1),
    faults: true,
    vars: { ...VARS, REFRESH_SECONDS: '2' },
  });
  try {
    const missing = makeBundle({ lantern_red: 31 });
    await putRelease(await fleet.kv(), keys, makeManifest(1, missing));
    const end = performance.now() + 9_000;
    while (performance.now() < end) await fleet.edge.ask().then(() => sleep(40));
    const { reads, cacheTtl } = await fleet.stats();
    expect(reads.release).toBeGreaterThanOrEqual(3);
    expect(reads.release).toBeLessThanOrEqual(6);
    // The isolate tries a rejected release again 2, 4 and 8 s after the previous attempt.
    expect(reads[`bundle/${missing.digest}`]).toBeGreaterThanOrEqual(2);
    expect(reads[`bundle/${missing.digest}`]).toBeLessThanOrEqual(3);
    expect(cacheTtl.release).toBe(30);
  } finally {
    await fleet.dispose();
  }
});

it('the first request of an isolate does not wait for a KV that hangs', async () => {
  const fleet = await Fleet.start({ origin, workers: 2, faults: true, vars: VARS });
  try {
    await putRelease(await fleet.kv(), keys, makeManifest(1, first), first);
    await fleet.setFaults({ read: 'hang' });
    for (const edge of fleet.edges) {
      const { status, ruleset, ms } = await edge.ask();
      // The first request waits only 50 ms for KV, although KV hangs until the fault ends below.
      console.log(`first request of an isolate whose KV hangs: ${ms.toFixed(0)} ms`);
      expect([status, ruleset]).toEqual([200, embedded]);
    }
    expect((await fleet.edge.ask()).status).toBe(200);
    await fleet.setFaults({ read: null });
    await fleet.untilRelease(1);
  } finally {
    await fleet.dispose();
  }
});
