// Correlation over accounts: the correlators count observations of all isolates, and every isolate
// gets the results as indicators. Failures of correlators, registry or KV do not affect requests.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { coveredCalls } from './openapi.ts';
import { Admin, ADMIN_TOKEN, makeBundle, READ_TOKEN, signature } from './release-fixtures.ts';
import {
  CANARIES,
  type DecisionLine,
  type Edge,
  eventually,
  expectNoLeak,
  Fleet,
  Origin,
  PATIENCE_MS,
  ROOT,
  SECRETS,
  sha256,
  shortId,
  sleep,
  useFleet,
  useOrigin,
} from './support.ts';

const keys = keyPair();
const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN, READ_TOKEN };

/** Accounts that must share a template before the correlation fires. */
const THRESHOLD = 4;
/** The correlation's condition as the API describes it. */
const CONDITION = `≥ ${THRESHOLD} different hedgerow.account within 1 h, by hedgerow.template.user`;
/**
 * Weight in decibans of a correlation that alone makes a request suspect. Shipped correlations
 * weigh less.
 */
const WEIGHT = 22;
const SNAPSHOT_SECONDS = 1;

/** Makes a correlation that fires when at least `gte` accounts share a template. */
const correlation = (name: string, gte: number, members: object = {}) => ({
  name,
  id: `00000000-0000-4000-8000-${sha256(name).slice(0, 12)}`,
  title: `Says ${name}`,
  family: 'cluster',
  status: 'stable',
  weight: WEIGHT,
  rules: ['traffic_generation'],
  group_by: ['hedgerow.template.user'],
  timespan: 3600,
  measure: {
    value_count: { field: 'hedgerow.account', thresholds: [{ comparator: 'gte', value: gte }] },
  },
  ttl: 3600,
  ...members,
});
const traffic = signature('traffic_generation', 0, { exists: true });
const correlate = (shards: number) => ({
  shards,
  memory: 16 << 20,
  snapshot_interval: SNAPSHOT_SECONDS,
});
const rules = (members: object = {}, ...more: object[]) =>
  makeBundle(
    {},
    {
      signatures: [traffic],
      correlations: [correlation('cluster_template', THRESHOLD, members), ...more],
      policy: { correlate: correlate(2) },
    },
  );

const WORDS = `
  orchard ledger season lantern harbour meadow copper window garden letter river candle market
  chapel timber saddle kettle ribbon anchor barley cellar mirror needle pepper quarry rudder shovel
  thistle violet wagon basket cradle dagger ember feather goblet hammer inkwell jacket ladder`
  .trim()
  .split(/\s+/);

/**
 * Returns a prompt from the template of a campaign. No two campaigns share eight words in a row.
 */
const prompt = (name: string, slot: string) => {
  const words = (part: number) =>
    [...Buffer.from(sha256(`${name} ${part}`), 'hex')]
      .map((byte) => WORDS[byte % WORDS.length])
      .join(' ');
  return `${name}: ${words(1)}. ${words(2)}: ${slot}`;
};

/** Measurements as text, which `npm run bench` writes to docs/benchmarks.md. */
const measurements: Record<string, string> = {};
function recordMeasurement(name: string, text: string) {
  console.log(text);
  measurements[name] = text;
  mkdirSync(path.join(ROOT, 'build'), { recursive: true });
  writeFileSync(path.join(ROOT, 'build/online.json'), `${JSON.stringify(measurements, null, 2)}\n`);
}

const origin = useOrigin(Origin.ok);

/** A KV namespace with binary values and metadata. */
interface BinaryKv {
  getWithMetadata(
    key: string,
    type: 'arrayBuffer',
  ): Promise<{ value: ArrayBuffer; metadata: { signature: string } }>;
  put(key: string, value: ArrayBuffer, options: object): Promise<void>;
}

let accounts = 0;
/** Sends a request from a new account, or from the given account, and returns the decision. */
async function decide(
  edge: Edge,
  content: string,
  account = `sk-orchard-${++accounts}-${shortId()}`,
): Promise<DecisionLine> {
  const response = await edge.ask(content, { authorization: `Bearer ${account}` });
  expect(response.status).toBe(200);
  return edge.decision(response);
}

/** Sends one request of a campaign, from a new account. */
const decideCampaign = (edge: Edge, name: string) =>
  decide(edge, prompt(name, `entry ${shortId()}`));

/** Sends requests of a campaign from new accounts, one each, to all isolates in turn. */
async function runCampaign(fleet: Fleet, name: string, count: number): Promise<DecisionLine[]> {
  const decisions: DecisionLine[] = [];
  for (let number = 0; number < count; number++)
    decisions.push(await decideCampaign(fleet.edges[number % fleet.edges.length]!, name));
  return decisions;
}

/**
 * Waits until an isolate raises the score of new accounts of a campaign. Returns the milliseconds
 * since `since`.
 */
async function untilFlagged(
  edge: Edge,
  name: string,
  { since = performance.now(), timeoutMs = PATIENCE_MS } = {},
): Promise<number> {
  await eventually(
    `the indicator of ${name}`,
    async () => {
      const { hits } = await decideCampaign(edge, name);
      expect(hits.map(({ name }) => name)).toContain('cluster_template');
    },
    timeoutMs,
  );
  return performance.now() - since;
}

describe('counting and indicators', () => {
  const fleet = useFleet({ origin, vars, faults: true });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);
  beforeAll(async () => {
    await admin.release(keys, 1, rules());
    await fleet.untilRelease(1);
  });

  it('after the threshold every isolate flags new accounts at their first request', async () => {
    const began = performance.now();
    const first = await runCampaign(fleet, 'Amberwell', THRESHOLD);
    expect(first.map(({ band, score }) => [band, score])).toEqual(
      first.map(() => ['clear', expect.any(Number)]),
    );
    const since = performance.now();
    const delays = await Promise.all(
      fleet.edges.map((edge) => untilFlagged(edge, 'Amberwell', { since })),
    );
    const campaignMs = (since - began).toFixed(0);
    const delayMs = delays.map((ms) => ms.toFixed(0)).join(', ');
    recordMeasurement(
      'delay',
      `${THRESHOLD} accounts within ${campaignMs} ms; ` +
        `flagged at ${fleet.edges.length} isolates after ${delayMs} ms`,
    );
    for (const edge of fleet.edges) {
      const decision = await decide(edge, prompt('Amberwell', 'a note about quinces'));
      expect(decision).toMatchObject({
        band: 'suspect',
        hits: [{ name: 'cluster_template', weight: WEIGHT }],
      });
    }
    // Other requests are not flagged.
    for (const edge of fleet.edges)
      expect(await decide(edge, 'When do blackbirds nest?')).toMatchObject({
        band: 'clear',
        hits: [],
      });
    expect(await decide(fleet.edge, prompt('Another', 'a note about quinces'))).toMatchObject({
      band: 'clear',
      hits: [],
    });
  });

  it('indicators are listed and explained', async () => {
    // Waits until both shards have delivered their firings. Before, the indicators can change
    // between two reads.
    await fleet.untilDelivered();
    const { indicators } = await eventually('the indicators', async () => {
      const list = await admin.getOk('/indicators');
      expect(list.indicators.length).toBeGreaterThan(0);
      expect((await admin.status()).indicators).toMatchObject({
        count: list.indicators.length,
        pending: false,
      });
      return list;
    });
    // The campaign's template has several keys, and each key becomes an indicator.
    for (const indicator of indicators)
      expect(indicator).toMatchObject({
        correlation: 'cluster_template',
        measured: THRESHOLD,
        accounts: THRESHOLD,
        revoked_at: null,
        threshold: CONDITION,
      });
    const [first] = indicators;
    expect(first.expires - first.last).toBe(3600);
    const { key, indicators: explained, cluster } = await admin.getOk(`/indicators/${first.key}`);
    expect([key, explained]).toEqual([first.key, [first]]);
    expect(cluster.accounts).toBeGreaterThanOrEqual(THRESHOLD);
    // Successive pages together contain the same indicators as the whole list.
    const pages: { id: number }[] = [];
    for (let before = ''; ; before = `&before=${pages.at(-1)!.id}`) {
      const { indicators: page, total } = await admin.getOk(`/indicators?limit=2${before}`);
      expect(total).toBe(indicators.length);
      pages.push(...page);
      if (page.length < 2) break;
    }
    expect(pages.map(({ id }) => id)).toEqual(indicators.map(({ id }: { id: number }) => id));
    expect((await admin.getOk('/indicators?correlation=cluster_other')).indicators).toEqual([]);
    const ofCluster = indicators.filter(
      (indicator: { cluster: string }) => indicator.cluster === cluster.id,
    );
    expect((await admin.getOk(`/indicators?cluster=${cluster.id}`)).indicators).toEqual(ofCluster);
    expect(await admin.getOk(`/indicators?cluster=${cluster.id}&limit=1`)).toEqual({
      indicators: ofCluster.slice(0, 1),
      total: ofCluster.length,
    });
    expect((await admin.getOk('/indicators?cluster=00000000')).indicators).toEqual([]);
    expect((await admin.get('/indicators/0000000000000000')).status).toBe(404);
    expect((await admin.get('/indicators?limit=all')).status).toBe(400);
    expect((await admin.status()).indicators).toMatchObject({
      count: indicators.length,
      clusters: new Set(indicators.map(({ cluster }: { cluster: string }) => cluster)).size,
      pending: false,
      problem: null,
    });
  });

  it('clusters are listed with their traffic, and decisions name their cluster', async () => {
    const decision = await eventually('the cluster of a decision', async () => {
      const decision = await decideCampaign(fleet.edges[2]!, 'Amberwell');
      expect(decision.cluster).toMatch(/^[0-9a-f]{8}$/);
      return decision;
    });
    const { cluster, details } = await eventually('the counts', async () => {
      await fleet.edges[2]!.ask();
      // Template keys with other accounts can form a second cluster until they fire again.
      const { clusters } = await admin.getOk('/clusters');
      const cluster = clusters.find(({ id }: { id: string }) => id === decision.cluster);
      expect(cluster.traffic.requests).toBeGreaterThan(0);
      const details = await admin.getOk(`/clusters/${decision.cluster}?minutes=60`);
      expect(details.links).toHaveLength(cluster.keys);
      return { cluster, details };
    });
    expect(cluster).toMatchObject({
      id: decision.cluster,
      correlations: ['cluster_template'],
      traffic: {
        minutes: 1440,
        by_model: { 'demo-large': cluster.traffic.requests },
        by_band: { suspect: cluster.traffic.requests },
      },
    });
    expect(details).toMatchObject({ id: decision.cluster, traffic: { minutes: 60 } });
    expect((await admin.get('/clusters/00000000')).status).toBe(404);
    expect((await admin.get('/clusters?minutes=0')).status).toBe(400);
    await fleet.setFaults({ ledger: 'throw' });
    expect((await admin.getOk(`/clusters/${decision.cluster}`)).traffic).toBe(null);
    await fleet.setFaults({ ledger: null });
  });

  it('the policy can name clusters, and sections for accounts take precedence', async () => {
    const { clusters } = await admin.getOk('/clusters');
    const policy = {
      correlate: correlate(2),
      cluster: clusters.map(({ id }: { id: string }) => ({
        id,
        mode: 'enforce',
        actions: { clear: 'allow', notice: 'tag', suspect: 'block', hostile: 'block' },
      })),
    };
    const { account } = await decide(fleet.edge, 'When do blackbirds nest?', 'sk-in-shadow');
    await admin.release(
      keys,
      2,
      makeBundle(
        {},
        {
          signatures: [traffic],
          correlations: [correlation('cluster_template', THRESHOLD)],
          policy: { ...policy, account: [{ id: account, mode: 'shadow' }] },
        },
      ),
    );
    await fleet.untilRelease(2);
    const status = async (content: string, account: string) =>
      (await fleet.edges[1]!.ask(content, { authorization: `Bearer ${account}` })).status;
    await eventually('the action of the cluster', async () =>
      expect(await status(prompt('Amberwell', 'one more'), `sk-${shortId()}`)).toBe(403),
    );
    expect(await status(prompt('Amberwell', 'one more'), 'sk-in-shadow')).toBe(200);
    expect(await status('When do blackbirds nest?', `sk-${shortId()}`)).toBe(200);
    await admin.release(keys, 3, rules());
    await fleet.untilRelease(3);
  });

  it('counts survive a release that changes the rules', async () => {
    await runCampaign(fleet, 'Brackenhill', THRESHOLD - 1);
    await fleet.untilDelivered();
    await admin.release(keys, 4, rules({}, correlation('cluster_other', 1000)));
    await fleet.untilRelease(4);
    await decide(fleet.edge, prompt('Brackenhill', 'the last account'));
    await untilFlagged(fleet.edges[1]!, 'Brackenhill');
  });

  it('a revocation applies to every isolate, and persists when the correlation fires', async () => {
    const before = new Set(
      (await admin.getOk('/indicators')).indicators.map(({ key }: { key: string }) => key),
    );
    await runCampaign(fleet, 'Cinderford', THRESHOLD);
    await Promise.all(fleet.edges.map((edge) => untilFlagged(edge, 'Cinderford')));
    // Revokes all keys of the template, because requests with different texts have different keys
    // of it.
    await fleet.untilDelivered();
    const revoked = await eventually('the indicators', async () => {
      const { indicators } = await admin.getOk('/indicators?limit=500');
      const added = indicators.filter(({ key }: { key: string }) => !before.has(key));
      expect(added.length).toBeGreaterThan(0);
      return added;
    });
    const [{ key: firstKey }] = revoked;
    const revoke = (key: string, body: unknown, client = admin) =>
      client.call('POST', `/indicators/${key}/revoke`, body);
    expect(
      (await revoke(firstKey, { reason: 'x' }, new Admin(fleet.edge, READ_TOKEN))).status,
    ).toBe(403);
    expect((await revoke(firstKey, { reason: '  ' })).status).toBe(422);
    expect((await revoke(firstKey, 'nonsense')).status).toBe(400);
    for (const until of [1, Math.floor(Date.now() / 1000) - 1, 99_999_999_999])
      expect((await revoke(firstKey, { reason: 'x', until })).status).toBe(422);
    expect((await revoke('0000000000000000', { reason: 'x' })).status).toBe(404);
    for (const { key } of revoked)
      expect((await revoke(key, { reason: 'our own evaluation', author: 'ana' })).body).toEqual({
        key,
        count: 1,
      });
    const expectNoHits = async (edge: Edge) =>
      expect((await decideCampaign(edge, 'Cinderford')).hits).toEqual([]);
    await Promise.all(
      fleet.edges.map((edge) => eventually('the revocation', () => expectNoHits(edge))),
    );
    expect((await admin.getOk(`/indicators/${firstKey}`)).indicators[0]).toMatchObject({
      revoked_at: expect.any(Number),
      reason: 'our own evaluation',
    });
    expect((await admin.getOk('/audit')).entries).toContainEqual(
      expect.objectContaining({
        action: 'indicator.revoke',
        actor: 'admin',
        author: 'ana',
        result: 'ok',
        subject: `${firstKey}: our own evaluation`,
      }),
    );
    // A shorter `ttl` makes the correlation fire again soon.
    await admin.release(keys, 5, rules({ ttl: 10 }));
    await fleet.untilRelease(5);
    const { times } = (await admin.getOk(`/indicators/${firstKey}`)).indicators[0];
    await eventually(
      'another firing',
      async () => {
        for (const edge of fleet.edges) await expectNoHits(edge);
        const { indicators } = await admin.getOk(`/indicators?limit=500`);
        const firedAgain = (indicator: { key: string; times: number; revoked_at: number | null }) =>
          revoked.some(({ key }: { key: string }) => key === indicator.key) &&
          indicator.times > times &&
          indicator.revoked_at;
        expect(indicators.some(firedAgain)).toBe(true);
      },
    );
    // Waits until the isolates have received the new publication, which must not undo the
    // revocation. Sends no requests meanwhile, because they could make the correlation fire for
    // keys that are not revoked.
    await sleep(2500);
    for (const edge of fleet.edges) await expectNoHits(edge);
  });

  it('a revocation with an end applies until then, and no longer', async () => {
    // Restores the longer `ttl`. With the `ttl` of the previous test, the indicators could expire
    // before the revocation ends.
    await admin.release(keys, 6, rules());
    await fleet.untilRelease(6);
    await runCampaign(fleet, 'Elderflower', THRESHOLD);
    await Promise.all(fleet.edges.map((edge) => untilFlagged(edge, 'Elderflower')));
    await fleet.untilDelivered();
    const until = Math.floor(Date.now() / 1000) + 6;
    const recent = await eventually('the indicators', async () => {
      const { indicators } = await admin.getOk('/indicators?limit=500');
      const unrevoked = indicators.filter(
        ({ revoked_at, first }: { revoked_at: number | null; first: number }) =>
          !revoked_at && first > until - 60,
      );
      expect(unrevoked.length).toBeGreaterThan(0);
      return unrevoked;
    });
    for (const { key } of recent)
      expect(
        (await admin.call('POST', `/indicators/${key}/revoke`, { reason: 'a class', until }))
          .status,
      ).toBe(200);
    await Promise.all(
      fleet.edges.map((edge) =>
        eventually('the revocation', async () =>
          expect((await decideCampaign(edge, 'Elderflower')).hits).toEqual([]),
        ),
      ),
    );
    expect((await admin.getOk(`/indicators/${recent[0].key}`)).indicators[0]).toMatchObject({
      revoked_until: until,
      revoked_at: expect.any(Number),
      reason: 'a class',
    });
    // Waits until `until`, when the revocation ends.
    await sleep(Math.max(0, until * 1000 + 1000 - Date.now()));
    await fleet.cron();
    await Promise.all(fleet.edges.map((edge) => untilFlagged(edge, 'Elderflower')));
    expect((await admin.getOk(`/indicators/${recent[0].key}`)).indicators[0]).toMatchObject({
      revoked_until: null,
      revoked_at: null,
      reason: null,
    });
  });

  it('forged indicators in KV are rejected, and the last valid ones stay in force', async () => {
    await runCampaign(fleet, 'Dovecote', THRESHOLD);
    await Promise.all(fleet.edges.map((edge) => untilFlagged(edge, 'Dovecote')));
    await eventually('the publication', async () =>
      expect((await admin.status()).indicators.pending).toBe(false),
    );
    const kv = (await fleet.kv()) as unknown as BinaryKv;
    const valid = await kv.getWithMetadata('indicators', 'arrayBuffer');
    const bytes = Buffer.from(valid.value);
    // One more indicator, with the signature of the previous value.
    const forged = Buffer.concat([bytes, bytes.subarray(bytes.length - 18)]);
    const put = (value: Buffer, signature?: string) =>
      kv.put(
        'indicators',
        new Uint8Array(value).buffer,
        signature ? { metadata: { signature } } : {},
      );
    const rejections = () =>
      fleet.logLines('hedgerow.indicators').filter(({ event }) => event === 'rejected').length;
    const expectHits = async () => {
      for (const edge of fleet.edges)
        expect((await decideCampaign(edge, 'Dovecote')).hits).toHaveLength(1);
    };
    for (const [value, signature] of [
      [forged, valid.metadata.signature],
      [Buffer.from('nonsense'), undefined],
    ] as [Buffer, string | undefined][]) {
      const before = rejections();
      await put(value, signature);
      await eventually('a rejection', async () => {
        await expectHits();
        // Writes the value again if the requests above made the registry replace it before an
        // isolate read it.
        if (rejections() <= before) await put(value, signature);
        expect(rejections()).toBeGreaterThan(before);
      });
      // Waits until the isolates have read the value again, which must log nothing. Sends no
      // requests meanwhile, because they could make the correlation fire and the registry replace
      // the value.
      await sleep(3000);
      await expectHits();
      expect(rejections() - before).toBeLessThanOrEqual(fleet.edges.length);
      await put(bytes, valid.metadata.signature);
    }
    await eventually('the errors', async () => {
      await fleet.edge.ask();
      const errors = (await admin.status('?minutes=5')).traffic.errors.map(
        ({ message }: { message: string }) => message,
      );
      expect(errors).toContainEqual(
        expect.stringMatching(/^indicators: .*not published by this deployment's registry/),
      );
    });
  });

  it('a list can have the template of an indicator, and outlasts the indicator', async () => {
    const { indicators } = await admin.getOk('/indicators?limit=500');
    const entries = [...new Set(indicators.map(({ key }: { key: string }) => key))].map(
      (value) => ({ value, reason: 'seen in this test' }),
    );
    const list = {
      name: 'list_campaigns',
      title: 'Campaigns',
      kind: 'template',
      weight: WEIGHT,
      entries,
    };
    await admin.release(keys, 7, makeBundle({}, { lists: [list] }));
    await fleet.untilRelease(7);
    for (const edge of fleet.edges) {
      expect(await decideCampaign(edge, 'Amberwell')).toMatchObject({
        band: 'suspect',
        hits: [{ name: 'list_campaigns', weight: WEIGHT }],
      });
      expect(await decideCampaign(edge, 'Unlisted')).toMatchObject({ band: 'clear', hits: [] });
    }
  });
});

describe('failures of the objects', () => {
  const fleet = useFleet({ origin, workers: 2, vars, faults: true });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);
  beforeAll(async () => {
    await admin.release(keys, 1, rules());
    await fleet.untilRelease(1);
  });

  it('a restart restores counts of the last snapshot, indicators and clusters', async () => {
    await runCampaign(fleet, 'Eastleigh', THRESHOLD);
    await Promise.all(fleet.edges.map((edge) => untilFlagged(edge, 'Eastleigh')));
    await runCampaign(fleet, 'Farringford', THRESHOLD - 1);
    await fleet.untilDelivered();
    await fleet.untilStored('correlator');
    const before = await admin.getOk('/clusters');
    await fleet.restart();
    await fleet.untilRelease(1);
    for (const edge of fleet.edges) await untilFlagged(edge, 'Eastleigh', { timeoutMs: 3000 });
    const ids = ({ clusters }: { clusters: { id: string; accounts: number; keys: number }[] }) =>
      clusters.map(({ id, accounts, keys }) => ({ id, accounts, keys }));
    expect(ids(await admin.getOk('/clusters'))).toEqual(ids(before));
    // The next account reaches the threshold.
    expect(await decide(fleet.edge, prompt('Farringford', 'the last account'))).toMatchObject({
      band: 'clear',
    });
    await untilFlagged(fleet.edges[1]!, 'Farringford');
    expect(
      (await admin.getOk('/indicators?limit=500')).indicators.every(
        ({ measured }: { measured: number }) => measured === THRESHOLD,
      ),
    ).toBe(true);
  });

  for (const fault of ['throw', 'hang'] as const) {
    it(`observations are counted when correlators no longer ${fault}`, async () => {
      const name = `Glenrowan ${fault}`;
      await fleet.setFaults({ correlator: fault, timerSpeed: 10 });
      const { correlator: calls } = await fleet.stats();
      let ms = -performance.now();
      await runCampaign(fleet, name, THRESHOLD);
      ms += performance.now();
      await eventually('the first attempt to deliver', async () =>
        expect((await fleet.stats()).correlator).toBeGreaterThan(calls),
      );
      ms -= performance.now();
      await runCampaign(fleet, name, THRESHOLD);
      ms += performance.now();
      recordMeasurement(
        `fault ${fault}`,
        `${2 * THRESHOLD} requests while correlators ${fault}: ${ms.toFixed(0)} ms`,
      );
      expect((await decide(fleet.edge, prompt(name, 'not known yet'))).band).toBe('clear');
      await fleet.setFaults({ correlator: null, timerSpeed: 1 });
      await Promise.all(fleet.edges.map((edge) => untilFlagged(edge, name)));
    });
  }

  it('while the registry fails, only the reporting isolate has its indicators', async () => {
    await fleet.setFaults({ registry: 'throw' });
    for (let number = 0; number < THRESHOLD; number++)
      await decideCampaign(fleet.edge, 'Harrowgate');
    await untilFlagged(fleet.edge, 'Harrowgate');
    expect((await decide(fleet.edges[1]!, prompt('Harrowgate', 'not known yet'))).band).toBe(
      'clear',
    );
    await fleet.setFaults({ registry: null });
    await untilFlagged(fleet.edges[1]!, 'Harrowgate');
  });

  it('indicators are published after KV rejected writes', async () => {
    await fleet.setFaults({ write: 'throw' });
    for (let number = 0; number < THRESHOLD; number++)
      await decideCampaign(fleet.edge, 'Ivybridge');
    await untilFlagged(fleet.edge, 'Ivybridge');
    await eventually('the problem', async () =>
      expect((await admin.status()).indicators).toMatchObject({
        pending: true,
        problem: 'KV cannot be written',
      }),
    );
    await fleet.setFaults({ write: null });
    await untilFlagged(fleet.edges[1]!, 'Ivybridge');
    await eventually('the publication', async () =>
      expect((await admin.status()).indicators).toMatchObject({ pending: false, problem: null }),
    );
  });

  it('indicators are written to KV at most once a second', async () => {
    // Causes new firings for longer than one write interval.
    for (let number = 0; number < 6; number++) {
      await runCampaign(fleet, `Jarrow ${number}`, THRESHOLD);
      await sleep(300);
    }
    await untilFlagged(fleet.edges[1]!, 'Jarrow 5');
    const { writes } = await fleet.stats();
    const gaps = writes.indicators!.slice(1).map((at, index) => at - writes.indicators![index]!);
    const shortest = Math.min(...gaps);
    const count = writes.indicators!.length;
    recordMeasurement(
      'writes',
      `KV: ${count} writes of indicators, the shortest gap ${shortest} ms`,
    );
    expect(shortest).toBeGreaterThanOrEqual(1000);
  });

  it('500 requests at 100 per second need few calls of objects', async () => {
    const count = 500;
    await fleet.untilDelivered();
    const before = await fleet.stats();
    const began = performance.now();
    const responses: Promise<{ status: number }>[] = [];
    for (let number = 0; number < count; number++) {
      responses.push(
        fleet.edges[number % 2]!.ask(prompt(`Kelmscott ${number % 50}`, `entry ${number}`), {
          authorization: `Bearer sk-${number % 40}`,
        }),
      );
      const ahead = number * 10 - (performance.now() - began);
      if (ahead > 0) await sleep(ahead);
    }
    expect(new Set((await Promise.all(responses)).map(({ status }) => status))).toEqual(
      new Set([200]),
    );
    const rate = count / ((performance.now() - began) / 1000);
    await fleet.untilDelivered();
    const after = await fleet.stats();
    const calls = (object: 'correlator' | 'registry' | 'ledger') => after[object] - before[object];
    const per100 = ((100 * calls('correlator')) / count).toFixed(1);
    recordMeasurement(
      'calls',
      `${count} requests at ${rate.toFixed(0)} a second to 2 isolates, 2 shards: ` +
        `${calls('correlator')} calls of correlators, ${calls('registry')} of the registry, ` +
        `${calls('ledger')} of the ledger; ${per100} calls of correlators per 100 requests`,
    );
    expect(calls('correlator')).toBeGreaterThan(0);
    expect(calls('correlator') / count).toBeLessThan(0.06);
    expect(calls('registry') / count).toBeLessThan(0.06);
  });

  it(
    'observations beyond the limit are dropped and counted, and every request is answered',
    async () => {
      await fleet.setFaults({ correlator: 'throw' });
      const edge = fleet.edges[1]!;
      // For each Durable Object, an isolate queues at most 4,096 observations, in addition to the
      // batch of 512 that it is sending.
      const [count, lanes] = [5_200, 40];
      const statuses = new Set<number>();
      await Promise.all(
        Array.from({ length: lanes }, async (_, lane) => {
          for (let number = lane; number < count; number += lanes)
            statuses.add(
              (
                await edge.ask(prompt('Langholm', `entry ${number}`), {
                  authorization: 'Bearer sk-one-account',
                })
              ).status,
            );
        }),
      );
      expect(statuses).toEqual(new Set([200]));
      const dropped = await eventually('the drops', async () => {
        await edge.ask();
        const { errors } = (await admin.status('?minutes=5')).traffic;
        const error = errors.find(({ message }: { message: string }) =>
          /^correlate: .*dropped/.test(message),
        );
        expect(error?.count).toBeGreaterThan(count - 4096 - 512 - 100);
        return error.count as number;
      });
      recordMeasurement(
        'pressure',
        `${count} requests while correlators fail: all answered, ` +
          `${dropped} observations dropped and counted`,
      );
      await fleet.setFaults({ correlator: null });
      origin.requests.length = 0;
    },
  );
});

// One client can make some correlations fire for any number of keys. This must not cause the loss
// of firings of other correlations.
it(
  'queued firings beyond the limit are dropped from the correlation with the most, and logged',
  async () => {
    const fleet = await Fleet.start({ origin, workers: 1, vars, faults: true });
    try {
      const admin = new Admin(fleet.edge, ADMIN_TOKEN);
      await admin.release(
        keys,
        1,
        makeBundle(
          {},
          {
            signatures: [traffic],
            correlations: [
              correlation('cluster_template', THRESHOLD),
              correlation('cluster_each', 1),
            ],
            // Raises the quotas, because the requests below come from one account.
            policy: { correlate: { ...correlate(1), quota_account: 100_000, quota_all: 100_000 } },
          },
        ),
      );
      await fleet.untilRelease(1);
      await fleet.setFaults({ registry: 'throw' });
      await runCampaign(fleet, 'Mortlake', THRESHOLD);
      await untilFlagged(fleet.edge, 'Mortlake');
      // Each prompt has about ten keys, so the requests cause about 10,000 firings. At most 5,000
      // can be queued.
      const [count, lanes] = [1_000, 40];
      await Promise.all(
        Array.from({ length: lanes }, async (_, lane) => {
          for (let number = lane; number < count; number += lanes)
            expect(
              (
                await fleet.edge.ask(prompt(`Noise ${number}`, 'x'), {
                  authorization: 'Bearer sk-one-account',
                })
              ).status,
            ).toBe(200);
        }),
      );
      await eventually(
        'the drops',
        async () => {
          const lines = fleet
            .logLines('hedgerow.correlator')
            .map(({ event, error }) => `${event}: ${error}`);
          expect(lines.join('\n')).toMatch(/^firings: .*\d+ .*registry/m);
        },
      );
      await fleet.setFaults({ registry: null });
      await eventually(
        'the campaign in the registry',
        async () => {
          expect(
            (await admin.getOk('/indicators?correlation=cluster_template')).indicators.length,
          ).toBeGreaterThan(0);
        },
      );
    } finally {
      await fleet.dispose();
    }
  },
);

describe('privacy', () => {
  it(
    'no content of requests is in the stored files, the admin API or the log',
    async () => {
      const fleet = await Fleet.start({ origin, workers: 2, vars });
      try {
        await fleet.setFaults({ ledgerAlarmSpeed: 10 });
        const admin = new Admin(fleet.edge, ADMIN_TOKEN, { 'cf-connecting-ip': CANARIES.address });
        const by = (field: string) =>
          correlation(`cluster_by_${field.split('.')[0]}`, THRESHOLD, { group_by: [field] });
        await admin.release(keys, 1, rules({}, by('client.address'), by('user_agent.original')));
        await fleet.untilRelease(1);
        const ask = (edge: Edge, account: number) =>
          edge.post(
            `/v1/chat/completions?note=${CANARIES.query}`,
            {
              model: 'demo-large',
              user: CANARIES.header,
              messages: [{ role: 'user', content: prompt(CANARIES.prompt, CANARIES.prompt) }],
            },
            {
              authorization: `Bearer ${CANARIES.credential}-${account}`,
              'user-agent': CANARIES.agent,
              'cf-connecting-ip': CANARIES.address,
              'x-note': CANARIES.header,
            },
          );
        for (let number = 0; number < 2 * THRESHOLD; number++)
          await ask(fleet.edges[number % 2]!, number);
        await eventually('indicators of all three correlations', async () => {
          for (const edge of fleet.edges)
            expect((await edge.decision(await ask(edge, 99))).hits).toHaveLength(3);
        });
        const indicators = await eventually('the indicators', async () => {
          const list = await admin.getOk('/indicators');
          expect(list.indicators.length).toBeGreaterThan(0);
          return list.indicators;
        });
        await admin.call('POST', `/indicators/${indicators[0].key}/revoke`, {
          reason: 'known reason',
        });
        await fleet.untilDelivered();
        await fleet.untilStored('correlator');
        await fleet.untilStored('ledger');
        const responses = await Promise.all(
          [
            '/status',
            '/audit?limit=500',
            '/indicators?limit=500',
            `/indicators/${indicators[0].key}`,
            '/clusters',
          ].map((path) => admin.getOk(path)),
        );
        await fleet.stop();
        const files = fleet.storedFiles();
        const stored = files.map(({ text }) => text).join('\n');
        // Proves that the search finds stored text. Correlation names are stored only once a
        // correlation has fired.
        for (const known of [
          'cluster_template',
          'cluster_by_client',
          indicators[0].key,
          'indicator.revoke',
          'known reason',
        ])
          expect(stored.includes(known), known).toBe(true);
        expect(files.filter(({ name }) => name.includes('Correlator')).length).toBeGreaterThan(0);
        const texts = {
          stored,
          responses: JSON.stringify(responses),
          log: fleet.logs.map(({ message }) => message).join('\n'),
        };
        expectNoLeak(texts, [...Object.values(CANARIES), ADMIN_TOKEN, ...Object.values(SECRETS)]);
      } finally {
        await fleet.dispose();
      }
    },
  );
});

it('every call for indicators and clusters has succeeded once', () => {
  const calls = [
    'GET /_hedgerow/v1/indicators',
    'GET /_hedgerow/v1/indicators/{key}',
    'POST /_hedgerow/v1/indicators/{key}/revoke',
    'GET /_hedgerow/v1/clusters',
    'GET /_hedgerow/v1/clusters/{id}',
  ];
  expect(calls.filter((call) => !coveredCalls.has(`${call} 200`))).toEqual([]);
});
