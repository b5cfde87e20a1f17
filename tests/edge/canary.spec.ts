// A canary meets a tenth of the accounts, everywhere and always the same ones. A shadow is watched, and does nothing.
import http from 'node:http';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, bundleOf, phrase, releaseOf } from './release.ts';
import { chat, type Decision, type Edge, eventually, Fleet, Origin, send, sha256 } from './support.ts';

const keys = keyPair();
const TOKEN = 'publish-token-of-the-tests';
const ACCOUNTS = 5000;
const PERCENT = 10;

let origin: Origin;
let fleet: Fleet;
let admin: Admin;
const agent = new http.Agent({ keepAlive: true, maxSockets: 48 });
beforeAll(async () => {
  origin = await Origin.start();
  fleet = await Fleet.start({ origin, vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN } });
  admin = new Admin(fleet.edge.url, TOKEN);
});
afterAll(async () => {
  agent.destroy();
  await fleet?.dispose();
  await origin?.close();
});
beforeEach(() => {
  origin.reset();
  origin.answer = Origin.ok;
});

const active = bundleOf({ lantern_red: 22, ferry_slow: 12 });
const canary = bundleOf({ lantern_red: 30, ferry_slow: 12 });
const body = JSON.stringify(chat('When do blackbirds nest?'));

/** The digests by which accounts are decided; `shift` sends each to another isolate than before. */
async function rulesets(numbers: number[], shift: number): Promise<(string | undefined)[]> {
  const found: (string | undefined)[] = Array(numbers.length);
  let next = 0;
  await Promise.all(
    Array.from({ length: 48 }, async () => {
      for (let index = next++; index < numbers.length; index = next++) {
        const number = numbers[index]!;
        const edge = fleet.edges[(number + shift) % fleet.edges.length]!;
        const { status, headers } = await send(edge.url, { path: '/v1/chat/completions', agent, body, headers: { 'content-type': 'application/json', 'content-length': body.length, authorization: `Bearer sk-account-${number}` } });
        if (status === 200) found[index] = headers['x-hedgerow-ruleset'] as string;
      }
    }),
  );
  origin.seen.length = 0;
  return found;
}

const all = Array.from({ length: ACCOUNTS }, (_, number) => number);
let members: number[];

it(`${PERCENT} % of ${ACCOUNTS} accounts get the canary`, { timeout: 90_000 }, async () => {
  await admin.release(keys, 1, active, { canary: { digest: canary.digest, percent: PERCENT } }, canary);
  await fleet.everywhere(1);
  const found = await rulesets(all, 0);
  members = all.filter((number) => found[number] === canary.digest);
  console.log(`${members.length} of ${ACCOUNTS} accounts get the canary: ${((100 * members.length) / ACCOUNTS).toFixed(2)} %`);
  expect(found.filter((digest) => digest === active.digest)).toHaveLength(ACCOUNTS - members.length);
  expect(members.length / ACCOUNTS).toBeGreaterThan((PERCENT - 2) / 100);
  expect(members.length / ACCOUNTS).toBeLessThan((PERCENT + 2) / 100);
});

it('the very same ones after a restart, at other isolates, and under another key’s header', { timeout: 90_000 }, async () => {
  await fleet.stop();
  await fleet.start();
  await fleet.everywhere(1);
  const found = await rulesets(all, 1);
  expect(all.filter((number) => found[number] === canary.digest)).toEqual(members);
  expect(new Set(found)).toEqual(new Set([active.digest, canary.digest]));
  // The same key in another dialect is the same account.
  const dialects = [{ 'x-api-key': `sk-account-${members[0]}` }, { authorization: `Bearer sk-account-${members[0]}` }] as Record<string, string>[];
  for (const headers of dialects) expect((await send(fleet.edge.url, { path: '/v1/messages', body, headers: { 'content-type': 'application/json', ...headers } })).headers['x-hedgerow-ruleset']).toBe(canary.digest);
});

it('decisions say which they were of, and so does the status', async () => {
  const [inside, outside] = [members[0]!, all.find((number) => !members.includes(number))!];
  for (const [number, rules, digest] of [[inside, 'canary', canary.digest], [outside, 'active', active.digest]] as const) {
    const answer = await fleet.edge.ask(phrase('lantern_red'), { authorization: `Bearer sk-account-${number}` });
    expect(await fleet.edge.decision(answer)).toMatchObject({ release: 1, rules, ruleset: digest });
  }
  admin = new Admin(fleet.edge.url, TOKEN);
  const { by_role, by_ruleset } = (await admin.status()).traffic;
  expect(by_role).toMatchObject({ active: expect.any(Number), canary: expect.any(Number) });
  expect(Object.keys(by_ruleset)).toEqual(expect.arrayContaining([active.digest, canary.digest]));
});

it('who is in stays in when the percentage grows', async () => {
  expect((await admin.publish(keys, releaseOf(2, active, { canary: { digest: canary.digest, percent: 30 } }))).status).toBe(201);
  await fleet.everywhere(2);
  const others = all.filter((number) => !members.includes(number)).slice(0, 500);
  expect(new Set(await rulesets(members, 2))).toEqual(new Set([canary.digest]));
  const joined = (await rulesets(others, 2)).filter((digest) => digest === canary.digest).length;
  // Of the 90 % that were not in, 20 are: two in nine.
  expect(joined / others.length).toBeGreaterThan(0.12);
  expect(joined / others.length).toBeLessThan(0.33);
});

it('a promoted canary is everybody’s', async () => {
  const promoted = await admin.publish(keys, releaseOf(3, canary), 'promote');
  expect([promoted.status, promoted.body]).toEqual([201, { serial: 3, published: true, problem: null }]);
  await fleet.everywhere(3);
  expect(new Set(await rulesets([...members.slice(0, 20), ...all.slice(0, 50)], 0))).toEqual(new Set([canary.digest]));
});

// --- Shadow -----------------------------------------------------------------------------------------------------

/** It would block nearly everything, if it had a say. */
const watched = bundleOf({ lantern_red: 25, meadow_wide: 25, hedge_tall: 25 }, { policy: { mode: 'enforce', bands: { notice: 1, suspect: 2, hostile: 3 }, actions: { clear: 'block', notice: 'block', suspect: 'block', hostile: 'block' } } });
const ASKED: [content: string, count: number, only_active: string[], only_shadow: string[]][] = [
  [phrase('lantern_red'), 5, [], []],
  [phrase('ferry_slow'), 4, ['ferry_slow'], []],
  [phrase('meadow_wide'), 3, [], ['meadow_wide']],
  [`${phrase('ferry_slow')}; ${phrase('meadow_wide')}; ${phrase('hedge_tall')}`, 2, ['ferry_slow'], ['hedge_tall', 'meadow_wide']],
];

it('a shadow sees every request and enforces nothing; what it would do differently is counted by signature', async () => {
  await admin.release(keys, 4, active, { shadow: { digest: watched.digest } }, watched);
  await fleet.everywhere(4);
  const asked: Promise<{ decision: Decision; content: string }>[] = [];
  const before = origin.seen.length;
  for (const [content, count] of ASKED) {
    for (let number = 0; number < count; number++) {
      const edge: Edge = fleet.edges[number % fleet.edges.length]!;
      // In Enforce, too, so that it is the active ruleset's word that is carried out.
      const answer = await edge.ask(content, { authorization: `Bearer sk-shadow-${number}`, ...(number % 2 && { 'x-hedgerow-mode': 'enforce' }) });
      expect([answer.status, answer.ruleset]).toEqual([200, active.digest]);
      asked.push(edge.decision(answer).then((decision) => ({ decision, content })));
    }
  }
  const total = ASKED.reduce((sum, [, count]) => sum + count, 0);
  expect(origin.seen.length - before).toBe(total);
  for (const seen of origin.seen.slice(before)) expect([seen.sha256, seen.headers['x-hedgerow-ruleset'] ?? active.digest]).toEqual([sha256(seen.body), active.digest]);
  for (const { decision, content } of await Promise.all(asked)) {
    const [, , only_active, only_shadow] = ASKED.find(([own]) => own === content)!;
    expect(decision).toMatchObject({ release: 4, rules: 'active', ruleset: active.digest });
    expect(decision.action).not.toBe('block');
    expect(decision.shadow).toEqual({ ruleset: watched.digest, score: expect.any(Number), band: expect.toBeOneOf(['clear', 'notice', 'suspect', 'hostile']), only_active, only_shadow });
  }
  const times = (name: string, list: 2 | 3) => ASKED.filter((row) => row[list].includes(name)).reduce((sum, [, count]) => sum + count, 0);
  await eventually('the shadow’s counts', async () => {
    const { shadow } = (await admin.status()).traffic;
    // `everywhere` has asked some, too, of which neither makes anything.
    expect(shadow?.ruleset).toBe(watched.digest);
    expect(shadow.requests).toBeGreaterThanOrEqual(total);
    expect(shadow.bands.reduce((sum: number, { count }: { count: number }) => sum + count, 0)).toBe(shadow.requests);
    expect(shadow.bands).toContainEqual({ from: 'suspect', to: 'hostile', count: 5 });
    const signatures = [...shadow.signatures].sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(signatures).toEqual(['ferry_slow', 'hedge_tall', 'meadow_wide'].map((name) => ({ name, only_active: times(name, 2), only_shadow: times(name, 3) })));
  });
});
