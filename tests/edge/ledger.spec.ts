// Counts are right, cheap and lasting; and nothing that a client said is kept anywhere.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, bundleOf, phrase } from './release.ts';
import { eventually, Fleet, Origin, SECRETS, sleep } from './support.ts';

const keys = keyPair();
const TOKEN = 'publish-token-of-the-tests';
const CANARIES = { prompt: 'canary-of-the-prompt', credential: 'sk-canary-of-the-credential', address: '203.0.113.78', agent: 'canary-of-the-agent', query: 'canary-of-the-query', model: 'canary-of-the-model@example.com', header: 'canary-of-the-header' };

let origin: Origin;
let fleet: Fleet;
let admin: Admin;
beforeAll(async () => {
  origin = await Origin.start();
  origin.answer = Origin.ok;
  fleet = await Fleet.start({ origin, workers: 2, vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN, REPORT_SECONDS: '2', LEDGER_SHARDS: '3' } });
  admin = new Admin(fleet.edge.url, TOKEN, { 'cf-connecting-ip': CANARIES.address });
});
afterAll(async () => {
  await fleet?.dispose();
  await origin?.close();
});

const bundle = bundleOf({ lantern_red: 22, ferry_slow: 9, meadow_wide: 25 });

const ROWS: [content: string, count: number, band: string, action: string, hits: string[]][] = [
  ['When do blackbirds nest?', 20, 'clear', 'allow', []],
  // No signature of that name is in the active rules: evidence alone counts.
  [phrase('ferry_slow'), 7, 'notice', 'tag', ['ferry_slow']],
  [phrase('lantern_red'), 5, 'suspect', 'degrade', ['lantern_red']],
  [`${phrase('lantern_red')}; ${phrase('meadow_wide')}`, 3, 'hostile', 'block', ['lantern_red', 'meadow_wide']],
];
const sum = (key: 2 | 3, value: string) => ROWS.filter((row) => row[key] === value).reduce((total, [, count]) => total + count, 0);

/** What was asked so far, by release. */
const asked: Record<string, number> = {};
const ask = async (index: number, ...rest: Parameters<Fleet['edge']['ask']>) => {
  const edge = fleet.edges[index % fleet.edges.length]!;
  const answer = await edge.ask(...rest);
  const { release } = await edge.decision(answer);
  asked[String(release ?? 0)] = (asked[String(release ?? 0)] ?? 0) + 1;
  return answer;
};

it('requests before any release count under serial 0', async () => {
  for (let number = 0; number < 6; number++) await ask(number);
  await eventually('the counts', async () => expect((await admin.status()).traffic).toMatchObject({ requests: 6, by_serial: { 0: 6 }, by_role: { embedded: 6 } }));
});

it('what the status counts is what was sent: by band, action, signature, ruleset and release', async () => {
  await admin.release(keys, 1, bundle);
  await eventually('the release', async () => {
    for (const index of fleet.edges.keys()) await ask(index);
    for (const edge of fleet.edges) expect((await edge.version()).release).toBe(1);
  });
  const before = await eventually('the counts', async () => {
    const { traffic } = await admin.status();
    expect(traffic.by_serial).toEqual(asked);
    return traffic;
  });
  for (const [content, count, band] of ROWS) {
    for (let number = 0; number < count; number++) {
      const answer = await ask(number, content, { authorization: `Bearer sk-counted-${number}` });
      expect([answer.status, answer.band]).toEqual([200, band]);
    }
  }
  // What is no LLM call counts nowhere.
  await fleet.edge.post('/unrelated', {});
  const total = ROWS.reduce((total, [, count]) => total + count, 0);
  await eventually('the counts', async () => {
    const { traffic } = await admin.status();
    expect(traffic).toMatchObject({ requests: before.requests + total, by_serial: asked, errors: [], shadow: null });
    const grew = (key: string, value: string) => (traffic[key][value] ?? 0) - (before[key][value] ?? 0);
    for (const band of ['clear', 'notice', 'suspect', 'hostile']) expect([band, grew('by_band', band)]).toEqual([band, sum(2, band)]);
    for (const action of ['allow', 'tag', 'degrade', 'block']) expect([action, grew('by_action', action)]).toEqual([action, sum(3, action)]);
    expect(grew('by_ruleset', bundle.digest)).toBe(total);
    const hits = (name: string) => ROWS.filter((row) => row[4].includes(name)).reduce((sum, [, count]) => sum + count, 0);
    expect(traffic.signatures).toEqual(['lantern_red', 'ferry_slow', 'meadow_wide'].map((name) => ({ name, hits: hits(name) })).sort((a, b) => b.hits - a.hits));
    for (const key of ['by_serial', 'by_ruleset', 'by_role', 'by_band', 'by_action', 'by_colo']) expect([key, Object.values<number>(traffic[key]).reduce((a, b) => a + b, 0)]).toEqual([key, traffic.requests]);
  });
});

it('counting costs less than 2 calls of a Durable Object per 100 requests, at about 100 a second', async () => {
  const before = (await fleet.witness()).ledger;
  const [count, began] = [500, performance.now()];
  const answers: Promise<{ status: number }>[] = [];
  for (let number = 0; number < count; number++) {
    answers.push(fleet.edges[number % 2]!.ask());
    const ahead = number * 10 - (performance.now() - began);
    if (ahead > 0) await sleep(ahead);
  }
  const statuses = new Set((await Promise.all(answers)).map(({ status }) => status));
  const rate = count / ((performance.now() - began) / 1000);
  const calls = (await fleet.witness()).ledger - before;
  console.log(`${calls} calls of a ledger for ${count} requests at ${rate.toFixed(0)} a second to ${fleet.edges.length} isolates`);
  expect(statuses).toEqual(new Set([200]));
  expect(calls).toBeGreaterThan(0);
  expect(calls / count).toBeLessThan(0.02);
  asked['1'] = asked['1']! + count;
  await eventually('the counts', async () => {
    // The last of an isolate's counts go out with a later request.
    await ask(0);
    await ask(1);
    await sleep(2500);
    expect((await admin.status()).traffic.by_serial['1']).toBeGreaterThanOrEqual(asked['1']! - 2);
  });
});

it('minutes are kept: after a restart the counts are still there', async () => {
  const all = Object.values(asked).reduce((a, b) => a + b, 0);
  await sleep(2500);
  for (const index of fleet.edges.keys()) await ask(index);
  await sleep(2500);
  // Two minutes on, nothing is of the last 60 seconds any more; the minutes have it.
  await fleet.fault({ clock: 121_000 });
  const kept = await eventually('the minutes', async () => {
    const { traffic } = await admin.status('?minutes=10');
    expect(traffic.seconds).toBe(600);
    expect(traffic.requests).toBeGreaterThanOrEqual(all);
    expect((await admin.status()).traffic.requests).toBe(0);
    return traffic;
  });
  // A minute is written when the next has its first report.
  for (const edge of fleet.edges) await edge.ask();
  await eventually('the next minute', async () => expect((await admin.status()).traffic.requests).toBe(fleet.edges.length));
  await fleet.stop();
  await fleet.start();
  await fleet.fault({ clock: 121_000 });
  admin = new Admin(fleet.edge.url, TOKEN, { 'cf-connecting-ip': CANARIES.address });
  const { traffic } = await admin.status('?minutes=10');
  for (const key of ['by_serial', 'by_ruleset', 'by_band', 'by_action']) {
    for (const [name, count] of Object.entries<number>(kept[key])) expect([key, name, traffic[key][name] >= count]).toEqual([key, name, true]);
  }
  expect(traffic.signatures).toEqual(kept.signatures);
});

it('minutes become hours, and are forgotten in time', { timeout: 90_000 }, async () => {
  const HOUR = 3_600_000;
  const count = async (minutes: number) => (await admin.status(`?minutes=${minutes}`)).traffic.requests as number;
  const before = await count(10);
  expect(before).toBeGreaterThan(30);
  /** Some requests later, and so long after them that objects have written and rolled up. */
  const later = async (clock: number) => {
    await fleet.fault({ clock });
    for (let number = 0; number < 4; number++) for (const edge of fleet.edges) await edge.ask();
    await sleep(12_000);
  };
  await later(3 * HOUR);
  expect(await count(60)).toBe(8);
  expect(await count(300)).toBe(before + 8);
  // Beyond two days there are only hours.
  await later(50 * HOUR);
  expect(await count(60)).toBe(8);
  expect(await count(60 * 60)).toBe(before + 16);
  await later(33 * 24 * HOUR);
  expect(await count(43_200)).toBe(8);
  await fleet.fault({ clock: 0 });
});

it('what is counted while the ledger is away is reported when it is back', async () => {
  const total = async () => (await admin.status()).traffic.requests as number;
  await sleep(2500);
  const before = await total();
  await fleet.fault({ ledger: 'throw' });
  for (const edge of fleet.edges) for (let number = 0; number < 5; number++) expect((await edge.ask()).status).toBe(200);
  expect(await admin.status()).toMatchObject({ ledger: { reachable: false }, traffic: { requests: 0 } });
  await sleep(2500);
  await fleet.fault({ ledger: null });
  let more = 0;
  await eventually('the counts', async () => {
    for (const edge of fleet.edges) await edge.ask();
    more += fleet.edges.length;
    const now = await total();
    expect(now).toBeGreaterThanOrEqual(before + 10 + 1);
    expect(now).toBeLessThanOrEqual(before + 10 + more);
    await sleep(200);
  });
});

it('no canary sings: not in what is stored, not in what the admin API tells, not in the log', async () => {
  const before = fleet.logs.length;
  for (const edge of fleet.edges) {
    for (const mode of [{}, { 'x-hedgerow-mode': 'enforce' }] as Record<string, string>[]) {
      await edge.post(`/v1/chat/completions?note=${CANARIES.query}`, { model: CANARIES.model, user: CANARIES.header, messages: [{ role: 'user', content: `${CANARIES.prompt} ${phrase('lantern_red')} ${CANARIES.prompt}` }] }, { authorization: `Bearer ${CANARIES.credential}`, 'user-agent': CANARIES.agent, 'cf-connecting-ip': CANARIES.address, 'x-note': CANARIES.header, ...mode });
    }
  }
  await admin.upload(keys, bundleOf({ lantern_red: 1 }));
  await new Admin(fleet.edge.url, CANARIES.credential, { 'cf-connecting-ip': CANARIES.address, 'user-agent': CANARIES.agent }).get(`/status?${CANARIES.query}=1`);
  await eventually('the counts', async () => {
    for (const edge of fleet.edges) await edge.ask();
    expect((await admin.status()).traffic.requests).toBeGreaterThan(4);
  });
  // Decisions are stored some seconds later.
  await sleep(8_000);
  const told = await Promise.all(['/status', '/status?minutes=60', '/series?minutes=15', '/decisions', '/audit?limit=500', '/releases', '/bundles', '/releases/current'].map((path) => admin.got(path)));
  const health = await (await fleet.edge.health()).text();
  await fleet.stop();
  const files = (readdirSync(fleet.directory, { recursive: true }) as string[]).map((name) => path.join(fleet.directory, name)).filter((name) => statSync(name).isFile());
  const stored = files.map((name) => readFileSync(name, 'latin1')).join('\n');
  // What should be there is found this way; so would be what should not.
  for (const known of ['lantern_red', 'bundle.upload', bundle.digest, '"hits":[{"name":']) expect(stored.includes(known), known).toBe(true);
  const heard = { stored, told: JSON.stringify(told) + health, log: fleet.logs.slice(before).map(({ message }) => message).join('\n') };
  for (const [where, text] of Object.entries(heard)) {
    const sung = [...Object.values(CANARIES), TOKEN, ...Object.values(SECRETS)].filter((bird) => text.includes(bird));
    expect([where, sung]).toEqual([where, []]);
  }
});
