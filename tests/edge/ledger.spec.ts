// The ledgers: their counts are correct, need few calls, survive restarts, and contain no text of
// clients.
import { beforeAll, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import {
  Admin,
  ADMIN_TOKEN,
  DAY,
  epochSeconds,
  makeBundle,
  phrase,
  readMetrics,
} from './release-fixtures.ts';
import {
  CANARIES,
  chat,
  eventually,
  expectNoLeak,
  Fleet,
  Origin,
  SECRETS,
  sleep,
  useFleet,
  useOrigin,
} from './support.ts';

const keys = keyPair();

const ALARMS = { ledgerAlarmSpeed: 10 };

const origin = useOrigin(Origin.ok);
const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN, REPORT_SECONDS: '2', LEDGER_SHARDS: '3' };
const fleet = useFleet({ origin, workers: 2, vars });
const admin = new Admin(fleet.edge, ADMIN_TOKEN, { 'cf-connecting-ip': CANARIES.address });
beforeAll(() => fleet.setFaults(ALARMS));

/** Exemptions of paths that only one test uses. */
const EXEMPTIONS = [
  { name: 'nightly', reason: 'the nightly audit', until: epochSeconds(DAY), path: '/v1/messages' },
  { name: 'retired', reason: 'ticket 7', until: epochSeconds(-DAY), path: '/v1/responses' },
];
const policy = { exemption: EXEMPTIONS };
const bundle = makeBundle({ lantern_red: 22, ferry_slow: 9, meadow_wide: 25 }, { policy });

const ROWS: [content: string, count: number, band: string, action: string, hits: string[]][] = [
  ['When do blackbirds nest?', 20, 'clear', 'allow', []],
  [phrase('ferry_slow'), 7, 'notice', 'tag', ['ferry_slow']],
  [phrase('lantern_red'), 5, 'suspect', 'degrade', ['lantern_red']],
  [
    `${phrase('lantern_red')}; ${phrase('meadow_wide')}`,
    3,
    'hostile',
    'block',
    ['lantern_red', 'meadow_wide'],
  ],
];
const rowCount = (key: 2 | 3, value: string) =>
  ROWS.filter((row) => row[key] === value).reduce((total, [, count]) => total + count, 0);
const sum = (counts: Record<string, number>) =>
  Object.values(counts).reduce((total, count) => total + count, 0);

/** Number of scored requests so far, by serial of the release. */
const sent: Record<string, number> = {};
/** Sends a request to an isolate, and counts it in `sent`. */
const ask = async (index: number, ...args: Parameters<typeof fleet.edge.ask>) => {
  const edge = fleet.edges[index % fleet.edges.length]!;
  const response = await edge.ask(...args);
  const { release } = await edge.decision(response);
  sent[String(release ?? 0)] = (sent[String(release ?? 0)] ?? 0) + 1;
  return response;
};
/** Sends requests to every isolate until the ledgers have all counts, including the last. */
const untilReported = () =>
  eventually('the reports', async () => {
    for (const index of fleet.edges.keys()) await ask(index);
    // The requests above trigger reports. An isolate that was already sending a report needs
    // another request, so this wait is short.
    await eventually(
      'all counts',
      async () =>
        expect((await admin.status('?minutes=10')).traffic.requests).toBeGreaterThanOrEqual(
          sum(sent),
        ),
      5_000,
    );
  });

it('requests before the first release count under serial 0', async () => {
  for (let number = 0; number < 6; number++) await ask(number);
  await eventually('the counts', async () =>
    expect((await admin.status()).traffic).toMatchObject({
      requests: 6,
      by_serial: { 0: 6 },
      by_role: { embedded: 6 },
    }),
  );
  expect((await admin.status()).exemptions).toEqual([]);
});

it('the status counts every request by band, action, signature, ruleset and release', async () => {
  await admin.release(keys, 1, bundle);
  await eventually('the release', async () => {
    for (const index of fleet.edges.keys()) await ask(index);
    for (const edge of fleet.edges) expect((await edge.version()).release).toBe(1);
  });
  const before = await eventually('the counts', async () => {
    const { traffic } = await admin.status();
    expect(traffic.by_serial).toEqual(sent);
    return traffic;
  });
  for (const [content, count, band] of ROWS) {
    for (let number = 0; number < count; number++) {
      const response = await ask(number, content, { authorization: `Bearer sk-counted-${number}` });
      expect([response.status, response.band]).toEqual([200, band]);
    }
  }
  // Requests that are not LLM calls are not counted.
  await fleet.edge.post('/unrelated', {});
  const total = ROWS.reduce((total, [, count]) => total + count, 0);
  await eventually('the counts', async () => {
    const { traffic } = await admin.status();
    expect(traffic).toMatchObject({
      requests: before.requests + total,
      by_serial: sent,
      errors: [],
      shadow: null,
    });
    const increase = (key: string, value: string) =>
      (traffic[key][value] ?? 0) - (before[key][value] ?? 0);
    for (const band of ['clear', 'notice', 'suspect', 'hostile'])
      expect([band, increase('by_band', band)]).toEqual([band, rowCount(2, band)]);
    for (const action of ['allow', 'tag', 'degrade', 'block'])
      expect([action, increase('by_action', action)]).toEqual([action, rowCount(3, action)]);
    expect(increase('by_ruleset', bundle.digest)).toBe(total);
    const hits = (name: string) =>
      ROWS.filter((row) => row[4].includes(name)).reduce((sum, [, count]) => sum + count, 0);
    expect(traffic.signatures).toEqual(
      ['lantern_red', 'ferry_slow', 'meadow_wide']
        .map((name) => ({ name, hits: hits(name) }))
        .sort((a, b) => b.hits - a.hits),
    );
    for (const key of ['by_serial', 'by_ruleset', 'by_role', 'by_band', 'by_action', 'by_colo'])
      expect([key, sum(traffic[key])]).toEqual([key, traffic.requests]);
  });
});

it('the status lists the exemptions of the active policy, and counts their requests', async () => {
  const response = await fleet.edge.post('/v1/messages', chat(phrase('lantern_red')));
  await response.arrayBuffer();
  expect(await fleet.edge.decision(response)).toMatchObject({
    band: 'suspect',
    action: 'allow',
    exemption: 'nightly',
  });
  sent['1'] = sent['1']! + 1;
  await untilReported();
  const { exemptions, traffic } = await admin.status('?minutes=10');
  expect(exemptions).toEqual(
    EXEMPTIONS.map(({ name, until, reason }) => ({ name, until, reason })),
  );
  expect(traffic.by_exemption).toEqual({ nightly: 1 });
});

it('at 100 requests per second, counting needs less than 2 calls per 100 requests', async () => {
  const before = (await fleet.stats()).ledger;
  const [count, began] = [500, performance.now()];
  const responses: Promise<{ status: number }>[] = [];
  for (let number = 0; number < count; number++) {
    responses.push(fleet.edges[number % 2]!.ask());
    const ahead = number * 10 - (performance.now() - began);
    if (ahead > 0) await sleep(ahead);
  }
  const statuses = new Set((await Promise.all(responses)).map(({ status }) => status));
  const rate = count / ((performance.now() - began) / 1000);
  const calls = (await fleet.stats()).ledger - before;
  console.log(
    `${calls} calls of ledgers for ${count} requests at ${rate.toFixed(0)} a second ` +
      `to ${fleet.edges.length} isolates`,
  );
  expect(statuses).toEqual(new Set([200]));
  expect(calls).toBeGreaterThan(0);
  expect(calls / count).toBeLessThan(0.02);
  sent['1'] = sent['1']! + count;
  await untilReported();
});

it('counts of whole minutes survive a restart', async () => {
  await untilReported();
  // Advances the clock by two minutes, so that the counts are older than the last 60 seconds.
  await fleet.setFaults({ clock: 121_000 });
  const stored = await eventually('the minutes', async () => {
    const { traffic } = await admin.status('?minutes=10');
    expect(traffic.seconds).toBe(600);
    expect(traffic.requests).toBeGreaterThanOrEqual(sum(sent));
    expect((await admin.status()).traffic.requests).toBe(0);
    return traffic;
  });
  // A ledger stores the counts of a minute when it receives the first report of a later minute.
  for (const edge of fleet.edges) await edge.ask();
  await eventually('the next minute', async () =>
    expect((await admin.status()).traffic.requests).toBe(fleet.edges.length),
  );
  await fleet.restart();
  await fleet.setFaults({ ...ALARMS, clock: 121_000 });
  const { traffic } = await admin.status('?minutes=10');
  for (const key of ['by_serial', 'by_ruleset', 'by_band', 'by_action']) {
    for (const [name, count] of Object.entries<number>(stored[key]))
      expect([key, name, traffic[key][name] >= count]).toEqual([key, name, true]);
  }
  expect(traffic.signatures).toEqual(stored.signatures);
});

it('counts of an outage of the ledgers are reported after it', async () => {
  const total = async () => (await admin.status('?minutes=10')).traffic.requests as number;
  const before = await total();
  await fleet.setFaults({ ledger: 'throw' });
  for (const edge of fleet.edges)
    for (let number = 0; number < 5; number++) expect((await edge.ask()).status).toBe(200);
  expect(await admin.status()).toMatchObject({
    ledger: { reachable: false },
    traffic: { requests: 0 },
  });
  // Waits until each isolate has tried to send a report.
  const { ledger } = await fleet.stats();
  await eventually('the failing reports', async () =>
    expect((await fleet.stats()).ledger).toBeGreaterThanOrEqual(ledger + fleet.edges.length),
  );
  await fleet.setFaults({ ledger: null });
  let more = 0;
  await eventually('the counts', async () => {
    for (const edge of fleet.edges) await edge.ask();
    more += fleet.edges.length;
    const now = await total();
    expect(now).toBeGreaterThanOrEqual(before + 10 + 1);
    expect(now).toBeLessThanOrEqual(before + 10 + more);
  });
});

// Uses a separate fleet that is not restarted. Each isolate chooses its ledger when it starts, so a
// restart would leave counts in ledgers that receive no more reports.
it('minutes are rolled up to hours, and hours are deleted after a month', async () => {
  const HOUR = 3_600_000;
  const fleet = await Fleet.start({ origin, workers: 2, vars: { ...vars, REPORT_SECONDS: '1' } });
  try {
    await fleet.setFaults(ALARMS);
    const admin = new Admin(fleet.edge, ADMIN_TOKEN);
    const count = async (minutes: number) =>
      (await admin.status(`?minutes=${minutes}`)).traffic.requests as number;
    /** Returns the requests since the start. The metrics include those of deleted hours. */
    const total = async () =>
      [...(await readMetrics(fleet.edge)).matchAll(/^hedgerow_requests_total\{.* (\d+)$/gm)]
        .map(([, requests]) => Number(requests))
        .reduce((sum, requests) => sum + requests, 0);
    /** Advances the clock, sends eight requests, and waits until they are counted and stored. */
    const advance = async (clock: number) => {
      await fleet.setFaults({ clock });
      for (let number = 0; number < 4; number++) for (const edge of fleet.edges) await edge.ask();
      await eventually('the counts', async () =>
        expect((await admin.status()).traffic.requests).toBe(8),
      );
      await fleet.untilStored('ledger');
    };
    await advance(0);
    await advance(3 * HOUR);
    expect(await count(60)).toBe(8);
    expect(await count(300)).toBe(16);
    expect(await total()).toBe(16);
    // For times more than two days ago, ledgers store only counts of hours.
    await advance(50 * HOUR);
    expect(await count(60)).toBe(8);
    expect(await count(60 * 60)).toBe(24);
    expect(await total()).toBe(24);
    await advance(33 * 24 * HOUR);
    expect(await count(43_200)).toBe(8);
    expect(await total()).toBe(32);
  } finally {
    await fleet.dispose();
  }
});

it('no content of requests is in the stored files, the admin API or the log', async () => {
  const before = fleet.logs.length;
  const ids: string[] = [];
  for (const edge of fleet.edges) {
    for (const mode of [{}, { 'x-hedgerow-mode': 'enforce' }] as Record<string, string>[]) {
      const { headers } = await edge.post(
        `/v1/chat/completions?note=${CANARIES.query}`,
        {
          model: CANARIES.model,
          user: CANARIES.header,
          messages: [
            {
              role: 'user',
              content: `${CANARIES.prompt} ${phrase('lantern_red')} ${CANARIES.prompt}`,
            },
          ],
        },
        {
          authorization: `Bearer ${CANARIES.credential}`,
          'user-agent': CANARIES.agent,
          'cf-connecting-ip': CANARIES.address,
          'x-note': CANARIES.header,
          ...mode,
        },
      );
      ids.push(headers.get('x-hedgerow-request-id')!);
    }
  }
  await admin.upload(keys, makeBundle({ lantern_red: 1 }));
  await new Admin(fleet.edge, CANARIES.credential, {
    'cf-connecting-ip': CANARIES.address,
    'user-agent': CANARIES.agent,
  }).get(`/status?${CANARIES.query}=1`);
  await eventually('the reports', async () => {
    for (const edge of fleet.edges) await edge.ask();
    for (const id of ids)
      expect((await admin.getOk(`/decisions?id=${id}`)).decisions).toHaveLength(1);
  });
  await fleet.untilStored('ledger');
  const responses = await Promise.all(
    [
      '/status',
      '/status?minutes=60',
      '/series?minutes=15',
      '/decisions',
      '/audit?limit=500',
      '/releases',
      '/bundles',
      '/releases/current',
    ].map((path) => admin.getOk(path)),
  );
  const health = await (await fleet.edge.health()).text();
  const metrics = await readMetrics(fleet.edge);
  expect(metrics).toContain('lantern_red');
  await fleet.stop();
  const stored = fleet
    .storedFiles()
    .map(({ text }) => text)
    .join('\n');
  // Proves that the search finds stored text.
  for (const known of ['lantern_red', 'bundle.upload', bundle.digest, '"hits":[{"name":'])
    expect(stored.includes(known), known).toBe(true);
  const texts = {
    stored,
    responses: JSON.stringify(responses) + health + metrics,
    log: fleet.logs
      .slice(before)
      .map(({ message }) => message)
      .join('\n'),
  };
  expectNoLeak(texts, [...Object.values(CANARIES), ADMIN_TOKEN, ...Object.values(SECRETS)]);
});
