// Floods: a client that makes up API keys and reasoning tokens can make correlations hold for any
// number of values. A flood must not stop correlation, spend the KV writes that releases need, or
// evict the indicators of campaigns. The limits are small here, so that a few thousand requests
// have the effect that a hundred thousand have with the shipped limits (benches/floods.mjs).
// Correlators, registry and KV are real.
import { beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { coveredCalls } from './openapi.ts';
import { Admin, ADMIN_TOKEN, makeBundle, READ_TOKEN, signature } from './release-fixtures.ts';
import {
  chat,
  type Edge,
  eventually,
  Origin,
  PATIENCE_MS,
  sha256,
  shortId,
  sleep,
  useFleet,
  useOrigin,
} from './support.ts';

const keys = keyPair();
const origin = useOrigin(Origin.ok);

/** Accounts that must share a template before the campaign's correlation fires. */
const THRESHOLD = 4;
/**
 * Number of made-up keys, of tokens and of indicators at full size. 0 selects smaller numbers, for
 * `npm test`.
 */
const FULL_SIZE = Number(process.env.HEDGEROW_FLOOD ?? 0);
const MADE_UP_KEYS = FULL_SIZE || 2_400;
const MADE_UP_TOKENS = FULL_SIZE || 3_200;
const MAX_INDICATORS = FULL_SIZE || 240;
/** Maximum time in ms in which the registry must process the rest of a flood. */
const DRAIN_MS = FULL_SIZE ? 300_000 : PATIENCE_MS;
/**
 * Budget of KV writes per day. Without it, the flood and the campaigns after it would cause more
 * than twenty writes.
 */
const KV_WRITES = 8;

const correlation = (name: string, gte: number, groupBy = 'hedgerow.template.user') => ({
  name,
  id: `00000000-0000-4000-8000-${sha256(name).slice(0, 12)}`,
  title: `Says ${name}`,
  family: 'cluster',
  status: 'stable',
  weight: 22,
  rules: ['traffic_generation'],
  group_by: [groupBy],
  timespan: 3600,
  measure: {
    value_count: { field: 'hedgerow.account', thresholds: [{ comparator: 'gte', value: gte }] },
  },
  ttl: 3600,
});

/**
 * Returns rules with three correlations: for a campaign's template, for each template of a single
 * account, and for each reasoning token of two accounts.
 */
const rules = (correlate: object) =>
  makeBundle(
    {},
    {
      signatures: [signature('traffic_generation', 0, { exists: true })],
      correlations: [
        correlation('cluster_campaign', THRESHOLD),
        correlation('cluster_each', 1),
        correlation('cluster_token', 2, 'hedgerow.reasoning_token'),
      ],
      policy: { correlate: { shards: 1, memory: 16 << 20, snapshot_interval: 1, ...correlate } },
    },
  );
const noQuotas = {
  quota_account: 100_000,
  quota_tenant: 100_000,
  quota_network: 100_000,
  quota_all: 100_000,
};

/** Returns a prompt from the template of a campaign, with `slot` as its variable part. */
const prompt = (name: string, slot: string) => {
  const words = (part: number) =>
    sha256(`${name} ${part}`)
      .match(/.{4}/g)!
      .map((digits) => `w${digits}`)
      .join(' ');
  return `${name}: ${words(1)}. ${words(2)}: ${slot}`;
};
const newKey = () => `sk-${shortId()}-${shortId()}`;
const askAs = (edge: Edge, key: string, content: string, headers: Record<string, string> = {}) =>
  edge.ask(content, { authorization: `Bearer ${key}`, ...headers });

async function hitsOf(edge: Edge, name: string): Promise<string[]> {
  const { hits } = await edge.decision(await askAs(edge, newKey(), prompt(name, shortId())));
  return hits.map(({ name }) => name);
}

/** Sends requests from new accounts that share a template. */
async function runCampaign(edge: Edge, name: string, accounts: number) {
  for (let number = 0; number < accounts; number++)
    await askAs(edge, newKey(), prompt(name, `entry ${shortId()}`));
}

/** Sends `count` requests, each with a new API key and a new text. */
async function floodWithKeys(edge: Edge, count: number) {
  await inLanes(count, () => askAs(edge, newKey(), prompt(`Noise ${shortId()}`, shortId())));
}

/** Sends `count` reasoning tokens, sixteen in a request. Two API keys send each token. */
async function floodWithTokens(edge: Edge, count: number) {
  await inLanes(count / 16, () => replayTokens(edge, 16, 2));
}

/**
 * Sends a request from each of `accounts` new accounts. All requests contain the same new tokens.
 */
async function replayTokens(edge: Edge, tokens: number, accounts: number) {
  const content = Array.from({ length: tokens }, () => ({
    type: 'thinking',
    thinking: 'so',
    signature: Buffer.from(sha256(newKey())).toString('base64'),
  }));
  const messages = [
    { role: 'user', content: 'When do blackbirds nest?' },
    { role: 'assistant', content },
    { role: 'user', content: 'And thrushes?' },
  ];
  for (let account = 0; account < accounts; account++) {
    const headers = { authorization: `Bearer ${newKey()}` };
    const response = await edge.post('/v1/chat/completions', chat('', { messages }), headers);
    await response.arrayBuffer();
  }
}

async function inLanes(count: number, work: () => Promise<unknown>, lanes = 24) {
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      for (let number = lane; number < count; number += lanes) await work();
    }),
  );
}

describe('floods', { timeout: FULL_SIZE ? 3_600_000 : undefined }, () => {
  const vars = {
    PUBLIC_KEYS: keys.publicKey,
    ADMIN_TOKEN,
    READ_TOKEN,
    KV_WRITES_PER_DAY: String(KV_WRITES),
  };
  const fleet = useFleet({ origin, workers: 2, vars, faults: true });
  const admin = new Admin(fleet.edge, ADMIN_TOKEN);
  const status = async () => (await admin.status()).indicators;
  beforeAll(async () => {
    await admin.release(keys, 1, rules({ max_indicators: MAX_INDICATORS, ...noQuotas }));
    await fleet.untilRelease(1);
  });

  it('campaigns before and after a flood are found, and a release arrives in time', async () => {
    await runCampaign(fleet.edge, 'Amberwell', THRESHOLD);
    for (const edge of fleet.edges)
      await eventually('the campaign', async () =>
        expect(await hitsOf(edge, 'Amberwell')).toContain('cluster_campaign'),
      );
    const before = (await admin.getOk('/indicators?correlation=cluster_campaign')).indicators;

    await floodWithKeys(fleet.edge, MADE_UP_KEYS / 2);
    await floodWithTokens(fleet.edge, MADE_UP_TOKENS);
    const flood = floodWithKeys(fleet.edge, MADE_UP_KEYS / 2);
    // Publishes a release during the flood, with the same rules and the same small limit of
    // indicators.
    const began = performance.now();
    await admin.release(keys, 2, rules({ max_indicators: MAX_INDICATORS, ...noQuotas }));
    await fleet.untilRelease(2);
    const releaseMs = performance.now() - began;
    await flood;
    await fleet.untilDelivered(DRAIN_MS);
    console.log(`a release during the flood arrived after ${releaseMs.toFixed(0)} ms`);

    const full = await eventually(
      'the flood at the registry',
      async () => {
        const full = await status();
        expect(full.queued_firings).toBe(0);
        expect(full.by_correlation.cluster_each).toBeGreaterThan(MAX_INDICATORS / 8);
        return full;
      },
      DRAIN_MS,
    );
    expect(full).toMatchObject({ max: MAX_INDICATORS, max_per_correlation: MAX_INDICATORS / 4 });
    expect(full.count).toBeLessThanOrEqual(MAX_INDICATORS);
    for (const count of Object.values(full.by_correlation))
      expect(count).toBeLessThanOrEqual(MAX_INDICATORS / 4);
    expect(full.by_correlation.cluster_token).toBe(MAX_INDICATORS / 4);
    expect(full.replaced + full.refused_as_weak).toBeGreaterThan(1_000);

    // The earlier campaign keeps its indicators, and a later campaign gets indicators at once.
    const after = (await admin.getOk('/indicators?correlation=cluster_campaign')).indicators;
    const keysOf = (list: { key: string }[]) => list.map(({ key }) => key);
    expect(keysOf(after)).toEqual(expect.arrayContaining(keysOf(before)));
    await runCampaign(fleet.edge, 'Brackenhill', THRESHOLD);
    await eventually('the later campaign', async () =>
      expect(await hitsOf(fleet.edge, 'Brackenhill')).toContain('cluster_campaign'),
    );
    const campaigns = await admin.getOk('/indicators?correlation=cluster_campaign&limit=500');
    expect(campaigns.indicators.length).toBeGreaterThan(after.length);
    for (const edge of fleet.edges)
      expect(await hitsOf(edge, 'Amberwell')).toContain('cluster_campaign');
    // A token that several accounts replay also gets an indicator, although the flood has filled
    // that correlation's share.
    const since = Math.floor(Date.now() / 1000);
    await replayTokens(fleet.edge, 1, THRESHOLD);
    await eventually('the replayed token', async () => {
      const [newest] = (await admin.getOk('/indicators?correlation=cluster_token')).indicators;
      expect(newest.first).toBeGreaterThanOrEqual(since);
    });
  });

  it('writes of indicators stay within the budget, and releases do not need it', async () => {
    // Causes firings every second. Without a budget, they would cause more than KV_WRITES writes.
    for (let second = 0; second < 20; second++) {
      await runCampaign(fleet.edge, `Cedar ${second}`, THRESHOLD);
      await sleep(600);
    }
    const { writes } = await fleet.stats();
    expect(writes.indicators!.length).toBeLessThanOrEqual(KV_WRITES);
    const { kv_writes, kv_budget, pending } = await status();
    expect([kv_writes, kv_budget, pending]).toEqual([writes.indicators!.length, KV_WRITES, true]);
    await eventually('the last campaign, without KV', async () =>
      expect(await hitsOf(fleet.edge, 'Cedar 19')).toContain('cluster_campaign'),
    );
    await admin.release(keys, 3, rules({ max_indicators: MAX_INDICATORS, ...noQuotas }));
    await fleet.untilRelease(3);
    // An operator's revocation is published at once, even if the budget is spent.
    const since = Math.floor(Date.now() / 1000) - 3_600;
    const filter = { correlation: 'cluster_each', from: since };
    const body = { filter, reason: 'a flood of made-up keys', author: 'ana' };
    const { by_correlation } = await status();
    const revoke = (members: object) => admin.call('POST', '/indicators/revoke', members);
    expect((await revoke({ ...body, dry_run: true })).body).toEqual({
      count: by_correlation.cluster_each,
      dry_run: true,
    });
    expect((await revoke({ ...body, filter: {} })).status).toBe(422);
    expect((await revoke({ ...body, reason: ' ' })).status).toBe(422);
    expect((await revoke({ ...body, filter: { owner: 'x' } })).status).toBe(400);
    const reader = new Admin(fleet.edge, READ_TOKEN);
    expect((await reader.call('POST', '/indicators/revoke', body)).status).toBe(403);
    expect((await revoke(body)).body).toEqual({
      count: by_correlation.cluster_each,
      dry_run: false,
    });
    await eventually('the publication', async () => {
      const after = await status();
      expect(after.by_correlation.cluster_each).toBe(undefined);
      expect(after).toMatchObject({
        revoked: by_correlation.cluster_each,
        pending: false,
        problem: null,
      });
    });
    expect((await admin.getOk('/audit')).entries).toContainEqual(
      expect.objectContaining({
        action: 'indicator.revoke',
        author: 'ana',
        result: 'ok',
        subject:
          `${by_correlation.cluster_each} of correlation cluster_each, from ${since}: ` +
          'a flood of made-up keys',
      }),
    );
  });

  it('one account, and one network, cause only so many indicators in a minute', async () => {
    const quotas = { ...noQuotas, quota_account: 20, quota_network: 50 };
    await admin.release(keys, 4, rules({ max_indicators: 4_000, ...quotas }));
    await fleet.untilRelease(4);
    // Sends requests, because a correlator adopts a release only when it receives a batch of
    // observations.
    await eventually('the quotas', async () => {
      await fleet.edge.ask(prompt(shortId(), shortId()));
      expect((await status()).max).toBe(4_000);
    });
    const earlier = (await status()).refused_by_quota;
    const [flooder, network] = [newKey(), { 'cf-connecting-ip': '203.0.113.77' }];
    await inLanes(200, () => askAs(fleet.edge, flooder, prompt(`Fir ${shortId()}`, shortId())));
    await inLanes(200, () =>
      askAs(fleet.edge, newKey(), prompt(`Gorse ${shortId()}`, shortId()), network),
    );
    await fleet.untilDelivered();
    const full = await eventually('the refusals', async () => {
      // Sends another request, because the correlator reports refused firings with its next firing.
      await fleet.edge.ask(prompt(shortId(), shortId()));
      const full = await status();
      expect(full.refused_by_quota - earlier).toBeGreaterThan(1_000);
      return full;
    });
    // The quota applies per minute, and the requests may extend over two minutes.
    expect(full.top_networks[0].count).toBeGreaterThanOrEqual(50);
    expect(full.top_networks[0].count).toBeLessThanOrEqual(100);
    expect(full.top_accounts).toHaveLength(5);
    // Campaigns are still found during the flood.
    await runCampaign(fleet.edge, 'Hazelmere', THRESHOLD);
    await eventually('the campaign', async () =>
      expect(await hitsOf(fleet.edge, 'Hazelmere')).toContain('cluster_campaign'),
    );
    // Revokes all indicators in which the flooding account took part, by the account id that
    // decisions show.
    const decision = await fleet.edge.decision(
      await askAs(fleet.edge, flooder, 'When do blackbirds nest?'),
    );
    const { body } = await admin.call('POST', '/indicators/revoke', {
      filter: { account: decision.account },
      reason: 'a flood',
    });
    expect(body.count).toBeGreaterThanOrEqual(20);
    expect(body.count).toBeLessThanOrEqual(41);
    expect(await hitsOf(fleet.edge, 'Hazelmere')).toContain('cluster_campaign');
  });

  it('the call has succeeded', () => {
    expect(coveredCalls.has('POST /_hedgerow/v1/indicators/revoke 200')).toBe(true);
  });
});
