// A canary ruleset decides for a tenth of the accounts, and for the same accounts in every isolate.
// A shadow ruleset is evaluated, but has no effect on requests.
import http from 'node:http';
import { afterAll, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, ADMIN_TOKEN, makeBundle, makeManifest, phrase } from './release-fixtures.ts';
import {
  chat,
  type DecisionLine,
  eventually,
  Origin,
  send,
  sha256,
  useFleet,
  useOrigin,
} from './support.ts';

const keys = keyPair();
const ACCOUNTS = 5000;
const PERCENT = 10;
const CONNECTIONS = 48;

const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
afterAll(() => agent.destroy());
const origin = useOrigin(Origin.ok);
const fleet = useFleet({ origin, vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN } });
const admin = new Admin(fleet.edge, ADMIN_TOKEN);

const active = makeBundle({ lantern_red: 22, ferry_slow: 12 });
const canary = makeBundle({ lantern_red: 30, ferry_slow: 12 });
const body = JSON.stringify(chat('When do blackbirds nest?'));

/**
 * Returns the digest of the ruleset that decides for each account. A different `shift` sends each
 * account to a different isolate.
 */
async function rulesetsOf(numbers: number[], shift: number): Promise<(string | undefined)[]> {
  const digests: (string | undefined)[] = Array(numbers.length);
  let next = 0;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let index = next++; index < numbers.length; index = next++) {
        const number = numbers[index]!;
        const edge = fleet.edges[(number + shift) % fleet.edges.length]!;
        const { status, headers } = await send(edge.url, {
          path: '/v1/chat/completions',
          agent,
          body,
          headers: {
            'content-type': 'application/json',
            'content-length': body.length,
            authorization: `Bearer sk-account-${number}`,
          },
        });
        if (status === 200) digests[index] = headers['x-hedgerow-ruleset'] as string;
      }
    }),
  );
  origin.requests.length = 0;
  return digests;
}

const accounts = Array.from({ length: ACCOUNTS }, (_, number) => number);
let canaryAccounts: number[];

it(`${PERCENT} % of ${ACCOUNTS} accounts get the canary`, async () => {
  await admin.release(
    keys,
    1,
    active,
    { canary: { digest: canary.digest, percent: PERCENT } },
    canary,
  );
  await fleet.untilRelease(1);
  const digests = await rulesetsOf(accounts, 0);
  canaryAccounts = accounts.filter((number) => digests[number] === canary.digest);
  const share = canaryAccounts.length / ACCOUNTS;
  console.log(
    `${canaryAccounts.length} of ${ACCOUNTS} accounts get it: ${(100 * share).toFixed(2)} %`,
  );
  expect(digests.filter((digest) => digest === active.digest)).toHaveLength(
    ACCOUNTS - canaryAccounts.length,
  );
  expect(share).toBeGreaterThan((PERCENT - 2) / 100);
  expect(share).toBeLessThan((PERCENT + 2) / 100);
});

it(
  'the same accounts get it after a restart, at other isolates and with the key in another header',
  async () => {
    await fleet.restart();
    await fleet.untilRelease(1);
    const digests = await rulesetsOf(accounts, 1);
    expect(accounts.filter((number) => digests[number] === canary.digest)).toEqual(canaryAccounts);
    expect(new Set(digests)).toEqual(new Set([active.digest, canary.digest]));
    // An API key belongs to the same account in every dialect.
    const dialects = [
      { 'x-api-key': `sk-account-${canaryAccounts[0]}` },
      { authorization: `Bearer sk-account-${canaryAccounts[0]}` },
    ] as Record<string, string>[];
    for (const headers of dialects)
      expect(
        (
          await send(fleet.edge.url, {
            path: '/v1/messages',
            body,
            headers: { 'content-type': 'application/json', ...headers },
          })
        ).headers['x-hedgerow-ruleset'],
      ).toBe(canary.digest);
  },
);

it('decisions and the status name the role of the ruleset', async () => {
  const [inside, outside] = [
    canaryAccounts[0]!,
    accounts.find((number) => !canaryAccounts.includes(number))!,
  ];
  for (const [number, rules, digest] of [
    [inside, 'canary', canary.digest],
    [outside, 'active', active.digest],
  ] as const) {
    const response = await fleet.edge.ask(phrase('lantern_red'), {
      authorization: `Bearer sk-account-${number}`,
    });
    expect(await fleet.edge.decision(response)).toMatchObject({
      release: 1,
      rules,
      ruleset: digest,
    });
  }
  await eventually('the counts', async () => {
    // An isolate reports its last counts only after a later request.
    await fleet.edge.ask();
    const { by_role, by_ruleset } = (await admin.status()).traffic;
    expect(by_role).toMatchObject({ active: expect.any(Number), canary: expect.any(Number) });
    expect(Object.keys(by_ruleset)).toEqual(expect.arrayContaining([active.digest, canary.digest]));
  });
});

it('a higher percentage keeps the canary accounts', async () => {
  expect(
    (
      await admin.publish(
        keys,
        makeManifest(2, active, { canary: { digest: canary.digest, percent: 30 } }),
      )
    ).status,
  ).toBe(201);
  await fleet.untilRelease(2);
  const others = accounts.filter((number) => !canaryAccounts.includes(number)).slice(0, 500);
  expect(new Set(await rulesetsOf(canaryAccounts, 2))).toEqual(new Set([canary.digest]));
  const added = (await rulesetsOf(others, 2)).filter((digest) => digest === canary.digest).length;
  // The canary grows from 10 % to 30 % of the accounts: 20 of the other 90 % are added, two
  // accounts in nine.
  expect(added / others.length).toBeGreaterThan(0.12);
  expect(added / others.length).toBeLessThan(0.33);
});

it('a promoted canary decides for all accounts', async () => {
  const promoted = await admin.publish(keys, makeManifest(3, canary), 'promote');
  expect([promoted.status, promoted.body]).toEqual([
    201,
    { serial: 3, published: true, problem: null, stopped: false },
  ]);
  await fleet.untilRelease(3);
  expect(
    new Set(await rulesetsOf([...canaryAccounts.slice(0, 20), ...accounts.slice(0, 50)], 0)),
  ).toEqual(new Set([canary.digest]));
});

// --- Shadow -------------------------------------------------------------------------------------

/** A shadow ruleset. If it were active, it would block nearly all requests. */
const shadow = makeBundle(
  { lantern_red: 25, meadow_wide: 25, hedge_tall: 25 },
  {
    policy: {
      mode: 'enforce',
      bands: { notice: 1, suspect: 2, hostile: 3 },
      actions: { clear: 'block', notice: 'block', suspect: 'block', hostile: 'block' },
    },
  },
);
const REQUESTS: [content: string, count: number, only_active: string[], only_shadow: string[]][] = [
  [phrase('lantern_red'), 5, [], []],
  [phrase('ferry_slow'), 4, ['ferry_slow'], []],
  [phrase('meadow_wide'), 3, [], ['meadow_wide']],
  [
    `${phrase('ferry_slow')}; ${phrase('meadow_wide')}; ${phrase('hedge_tall')}`,
    2,
    ['ferry_slow'],
    ['hedge_tall', 'meadow_wide'],
  ],
];

it('a shadow enforces nothing, and its differences are counted by signature', async () => {
  await admin.release(keys, 4, active, { shadow: { digest: shadow.digest } }, shadow);
  await fleet.untilRelease(4);
  const decisions: Promise<{ decision: DecisionLine; content: string }>[] = [];
  const before = origin.requests.length;
  for (const [content, count] of REQUESTS) {
    for (let number = 0; number < count; number++) {
      const edge = fleet.edges[number % fleet.edges.length]!;
      // Half of the requests are in mode enforce, in which the action of the active ruleset is
      // applied.
      const response = await edge.ask(content, {
        authorization: `Bearer sk-shadow-${number}`,
        ...(number % 2 && { 'x-hedgerow-mode': 'enforce' }),
      });
      expect([response.status, response.ruleset]).toEqual([200, active.digest]);
      decisions.push(edge.decision(response).then((decision) => ({ decision, content })));
    }
  }
  const total = REQUESTS.reduce((sum, [, count]) => sum + count, 0);
  expect(origin.requests.length - before).toBe(total);
  for (const request of origin.requests.slice(before))
    expect([request.sha256, request.headers['x-hedgerow-ruleset'] ?? active.digest]).toEqual([
      sha256(request.body),
      active.digest,
    ]);
  for (const { decision, content } of await Promise.all(decisions)) {
    const [, , only_active, only_shadow] = REQUESTS.find(([sent]) => sent === content)!;
    expect(decision).toMatchObject({ release: 4, rules: 'active', ruleset: active.digest });
    expect(decision.action).not.toBe('block');
    expect(decision.shadow).toEqual({
      ruleset: shadow.digest,
      score: expect.any(Number),
      band: expect.toBeOneOf(['clear', 'notice', 'suspect', 'hostile']),
      only_active,
      only_shadow,
    });
  }
  const countOf = (name: string, list: 2 | 3) =>
    REQUESTS.filter((row) => row[list].includes(name)).reduce((sum, [, count]) => sum + count, 0);
  await eventually('the counts of the shadow', async () => {
    const counts = (await admin.status()).traffic.shadow;
    // `untilRelease` has sent more requests, which match neither ruleset.
    expect(counts?.ruleset).toBe(shadow.digest);
    expect(counts.requests).toBeGreaterThanOrEqual(total);
    expect(counts.bands.reduce((sum: number, { count }: { count: number }) => sum + count, 0)).toBe(
      counts.requests,
    );
    expect(counts.bands).toContainEqual({ from: 'suspect', to: 'hostile', count: 5 });
    const signatures = [...counts.signatures].sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(signatures).toEqual(
      ['ferry_slow', 'hedge_tall', 'meadow_wide'].map((name) => ({
        name,
        only_active: countOf(name, 2),
        only_shadow: countOf(name, 3),
      })),
    );
  });
});
