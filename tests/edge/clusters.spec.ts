// Clusters: two campaigns form two clusters. Accounts that take part in both campaigns merge the
// clusters. The old id still finds the merged cluster and still applies in the policy, also after a
// restart of the registry. If an operator removes these accounts, the clusters are separate again.
import { describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, ADMIN_TOKEN, makeBundle, signature } from './release-fixtures.ts';
import {
  type DecisionLine,
  eventually,
  Origin,
  sha256,
  shortId,
  useFleet,
  useOrigin,
} from './support.ts';

const keys = keyPair();
const origin = useOrigin(Origin.ok);

/** Accounts that must share a template before the correlation fires. */
const THRESHOLD = 4;

const correlation = {
  name: 'cluster_template',
  id: '00000000-0000-4000-8000-00000000c105',
  title: 'Accounts that share a template',
  family: 'cluster',
  status: 'stable',
  weight: 22,
  rules: ['traffic_generation'],
  group_by: ['hedgerow.template.user'],
  timespan: 3600,
  measure: {
    value_count: {
      field: 'hedgerow.account',
      thresholds: [{ comparator: 'gte', value: THRESHOLD }],
    },
  },
  ttl: 3600,
};

const BLOCK = { clear: 'allow', notice: 'tag', suspect: 'block', hostile: 'block' };

/** Makes rules in Shadow mode, with a stricter treatment of the clusters with these ids. */
const rules = (...ids: string[]) =>
  makeBundle(
    {},
    {
      signatures: [signature('traffic_generation', 0, { exists: true })],
      correlations: [correlation],
      policy: {
        correlate: { shards: 1, memory: 16 << 20, snapshot_interval: 1 },
        cluster: ids.map((id) => ({ id, mode: 'enforce', actions: BLOCK })),
      },
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
const prompt = (campaign: string) => {
  const words = (part: number) =>
    [...Buffer.from(sha256(`${campaign} ${part}`), 'hex')]
      .map((byte) => WORDS[byte % WORDS.length])
      .join(' ');
  return `${campaign}: ${words(1)}. ${words(2)}: entry ${shortId()}`;
};

const newAccounts = (count: number) =>
  Array.from({ length: count }, () => `sk-orchard-${shortId()}`);

describe('clusters that merge', () => {
  const fleet = useFleet({
    origin,
    workers: 1,
    vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN },
  });
  const { edge } = fleet;
  const admin = new Admin(edge, ADMIN_TOKEN);
  const [ambleside, borrowdale] = [newAccounts(THRESHOLD), newAccounts(THRESHOLD)];
  let [first, second] = ['', ''];

  const ask = (campaign: string, account = newAccounts(1)[0]!) =>
    edge.ask(prompt(campaign), { authorization: `Bearer ${account}` });

  /**
   * Sends a request from a new account, and returns the decision with the status of the response.
   */
  async function decide(campaign: string): Promise<DecisionLine & { status: number }> {
    const response = await ask(campaign);
    return { ...(await edge.decision(response)), status: response.status };
  }

  /**
   * Sends a request from each account, and returns the cluster to which later requests of the
   * campaign belong.
   */
  async function clusterOf(campaign: string, accounts: string[]): Promise<string> {
    for (const account of accounts) await ask(campaign, account);
    return eventually(`the cluster of ${campaign}`, async () => {
      const { cluster } = await decide(campaign);
      expect(cluster).toMatch(/^[0-9a-f]{8}$/);
      return cluster!;
    });
  }

  it('two campaigns form two clusters, and the policy blocks the second one', async () => {
    await admin.release(keys, 1, rules());
    await fleet.untilRelease(1);
    first = await clusterOf('Ambleside', ambleside);
    second = await clusterOf('Borrowdale', borrowdale);
    expect(second).not.toBe(first);
    await admin.release(keys, 2, rules(second));
    await fleet.untilRelease(2);
    expect(await decide('Borrowdale')).toMatchObject({ cluster: second, status: 403 });
    expect(await decide('Ambleside')).toMatchObject({ cluster: first, status: 200 });
  });

  /**
   * Expects that the old id finds the merged cluster, and that the policy's section for the old id
   * applies to the whole merged cluster.
   */
  async function expectMerged() {
    await eventually('the merged cluster', async () => {
      const { id, aliases } = await admin.getOk(`/clusters/${second}`);
      expect([id, aliases]).toEqual([first, [second]]);
    });
    const { clusters } = await admin.getOk('/clusters');
    expect(clusters).toMatchObject([{ id: first, aliases: [second] }]);
    const { indicators } = await admin.getOk(`/indicators?cluster=${second}&limit=500`);
    expect(indicators.length).toBeGreaterThan(0);
    expect((await admin.getOk(`/indicators?cluster=${first}&limit=500`)).indicators).toEqual(
      indicators,
    );
    for (const campaign of ['Ambleside', 'Borrowdale', 'Coniston'])
      await eventually(`the treatment of ${campaign}`, async () => {
        const expected = { cluster: first, cluster_aliases: [second], status: 403 };
        expect(await decide(campaign)).toMatchObject(expected);
      });
  }

  it('accounts of both merge them, and the treatment by the old id applies', async () => {
    for (const account of [...ambleside.slice(0, 2), ...borrowdale.slice(0, 2)])
      await ask('Coniston', account);
    await expectMerged();
    // The cluster contains the decisions before the merge and the decisions after it.
    await fleet.untilDelivered();
    await eventually('the stored decisions', async () => {
      const { decisions } = await admin.getOk(`/decisions?limit=500&cluster=${second}`);
      const ids = new Set(decisions.map(({ cluster }: { cluster: string }) => cluster));
      expect(ids).toEqual(new Set([first, second]));
    });
  });

  it('aliases survive a restart, and a new cluster gets a new id', async () => {
    await fleet.restart();
    await fleet.untilRelease(2);
    await expectMerged();
    const third = await clusterOf('Dentdale', newAccounts(THRESHOLD));
    expect([first, second]).not.toContain(third);
    expect(await decide('Dentdale')).toMatchObject({ status: 200 });
  });

  it('cutting off accounts separates the clusters, which have their own ids again', async () => {
    const { bridges } = await admin.getOk(`/clusters/${first}`);
    expect(bridges.length).toBeGreaterThanOrEqual(4);
    const accounts: string[] = [];
    for (const account of ambleside.slice(0, 2))
      accounts.push((await edge.decision(await ask('Coniston', account))).account!);
    const split = (members: object) =>
      admin.call('POST', `/clusters/${second}/split`, {
        accounts,
        reason: 'testers of ours',
        author: 'ana',
        ...members,
      });
    const dry = await split({ dry_run: true });
    expect(dry.body).toMatchObject({ accounts: 2, dry_run: true });
    expect(dry.body.clusters.length).toBeGreaterThanOrEqual(2);
    expect((await split({ accounts: ['0'.repeat(16)] })).status).toBe(422);
    expect((await split({ reason: '' })).status).toBe(422);
    expect((await split({ dryrun: true })).status).toBe(400);
    expect((await admin.getOk(`/clusters/${second}`)).id).toBe(first);

    const { status, body } = await split({});
    expect([status, body.dry_run]).toEqual([200, false]);
    const ids = body.clusters.map(({ id }: { id: string }) => id);
    expect(ids).toEqual(expect.arrayContaining([first, second]));
    // If the accounts make the correlation fire again, the clusters stay separate, also after a
    // restart.
    for (const account of ambleside.slice(0, 2)) await ask('Coniston', account);
    for (const restarts of [false, true]) {
      if (restarts) await fleet.restart();
      if (restarts) await fleet.untilRelease(2);
      await eventually('two clusters', async () => {
        expect(await decide('Ambleside')).toMatchObject({ cluster: first, status: 200 });
        expect(await decide('Borrowdale')).toMatchObject({ cluster: second, status: 403 });
      });
    }
    const { entries } = await admin.getOk('/audit');
    const [entry] = entries.filter(({ action }: { action: string }) => action === 'cluster.split');
    expect(entry).toMatchObject({ author: 'ana', result: 'ok' });
  });
});
