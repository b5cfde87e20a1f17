// Accounts and tenants. In each credential scheme, an account survives the rotation of its
// credentials. Identity headers of a gateway count only with a proof. The origin may name the
// account of a request. Forged claims do not affect other accounts.
import { createHmac, createSign, generateKeyPairSync } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import {
  ADMIN_TOKEN,
  Admin,
  makeBundle,
  makeManifest,
  phrase,
  putRelease,
  signature,
} from './release-fixtures.ts';
import {
  chat,
  type DecisionLine,
  type Edge,
  eventually,
  Filter,
  type FilterOptions,
  Fleet,
  Origin,
  SECRETS,
  send,
  sha256,
  shortId,
  sleep,
  tagHeaders,
  useFilter,
  useOrigin,
  withFilter,
} from './support.ts';

const keys = keyPair();
const IDENTITY_SECRET = 'identity-secret-of-the-tests-with-32-bytes-or-more';
const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

/** Returns the id that the log shows for a text in an id domain, such as `account`. */
const idOf = (domain: string, text: string) =>
  createHmac('sha256', SECRETS.ACCOUNT_SECRET)
    .update(`hedgerow.${domain}.v1\0${text}`)
    .digest('hex')
    .slice(0, 32);

const base64url = (text: string) => Buffer.from(text).toString('base64url');
const jwt = (claims: object) =>
  [JSON.stringify({ alg: 'RS256', typ: 'JWT' }), JSON.stringify(claims), shortId()]
    .map(base64url)
    .join('.');
const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

interface Call {
  path?: string;
  headers?: Record<string, string>;
  content?: string;
}

/** Sends a chat request, and returns its decision. */
async function decide(to: Edge, call: Call = {}): Promise<DecisionLine> {
  const { path = '/v1/chat/completions', headers = {} } = call;
  const content = call.content ?? 'When do blackbirds nest?';
  const body = JSON.stringify(chat(content));
  const response = await send(to.url, {
    path,
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
  return to.decision(response);
}

/**
 * Runs a test body with a filter whose release has the given policy, signatures and correlations.
 */
const withRelease = (
  members: Parameters<typeof makeBundle>[1],
  body: (filter: Filter) => Promise<void>,
  options: FilterOptions = {},
) =>
  withFilter(
    {
      origin,
      ...options,
      vars: { PUBLIC_KEYS: keys.publicKey, REFRESH_SECONDS: '1', IDENTITY_SECRET, ...options.vars },
    },
    async (filter) => {
      const bundle = makeBundle({ lantern_red: 22 }, members);
      await putRelease(await filter.kv(), keys, makeManifest(1, bundle), bundle);
      await eventually('the release', async () => {
        await filter.ask();
        expect((await filter.version()).release).toBe(1);
      });
      origin.requests.length = 0;
      await body(filter);
    },
  );

const signed = (signature: string) =>
  `AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/eu/bedrock/aws4_request, ` +
  `SignedHeaders=host, Signature=${signature}`;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

const SCHEMES: [name: string, kind: string, text: string, calls: Call[]][] = [
  [
    'a key in every header and spelling',
    'key',
    'sk-hedge-1',
    [
      { headers: bearer('sk-hedge-1') },
      { headers: { authorization: 'bearer   sk-hedge-1' } },
      { headers: { authorization: 'Api-Key sk-hedge-1' } },
      { headers: { 'x-api-key': 'sk-hedge-1' } },
      { headers: { 'api-key': 'sk-hedge-1' } },
      { headers: { 'x-goog-api-key': 'sk-hedge-1' } },
      { headers: { 'ocp-apim-subscription-key': 'sk-hedge-1' } },
      { headers: { 'x-litellm-api-key': 'Bearer sk-hedge-1' } },
      { headers: { 'x-portkey-api-key': 'sk-hedge-1' } },
      { path: '/v1beta/models/demo:generateContent?key=sk%2Dhedge-1' },
      { path: '/v1/chat/completions?api-key=sk-hedge-1' },
      { headers: { authorization: basic('', 'sk-hedge-1') } },
    ],
  ],
  [
    'tokens of a subject',
    'jwt',
    'https://idp.example/\0sub\0svc-hedge',
    [1, 2, 3].map((iat) => ({
      headers: bearer(jwt({ iss: 'https://idp.example/', sub: 'svc-hedge', iat, jti: shortId() })),
    })),
  ],
  [
    'tokens of a client',
    'jwt',
    'https://idp.example/\0client_id\0hedge',
    [1, 2].map((iat) => ({
      headers: bearer(jwt({ iss: 'https://idp.example/', client_id: 'hedge', iat })),
    })),
  ],
  [
    'AWS signatures',
    'aws',
    'AKIAEXAMPLE',
    [
      { headers: { authorization: signed('00') } },
      { headers: { authorization: signed('11') } },
      { path: '/model/demo/converse', headers: { authorization: signed('22') } },
      { path: '/model/demo/converse?X-Amz-Credential=AKIAEXAMPLE%2F20260101&X-Amz-Signature=3' },
    ],
  ],
  [
    'HTTP Basic',
    'basic',
    'ana',
    [
      { headers: { authorization: basic('ana', 'one') } },
      { headers: { authorization: basic('ana', 'two').replace('Basic', 'BASIC ') } },
    ],
  ],
];

for (const [name, kind, text, calls] of SCHEMES)
  it(`${name} are one account`, async () => {
    const domain = kind === 'key' ? 'account' : `account.${kind}`;
    for (const call of calls) {
      const { account, account_kind } = await decide(filter, call);
      expect([account_kind, account], JSON.stringify(call)).toEqual([kind, idOf(domain, text)]);
    }
  });

it('a request without credential has no account, and several credentials are counted', async () => {
  expect(await decide(filter)).toMatchObject({ account: null, account_kind: 'none' });
  const several = { authorization: 'Bearer sk-1', 'x-api-key': 'sk-2', 'api-key': 'sk-2' };
  expect(await decide(filter, { headers: several })).toMatchObject({
    account: idOf('account', 'sk-1'),
    credentials: 2,
  });
  expect(await decide(filter, { path: '/v1/messages', headers: several })).toMatchObject({
    account: idOf('account', 'sk-2'),
  });
});

it('health warns if most scored calls have no account', () =>
  withFilter({ origin }, async (filter) => {
    const messages = async () => {
      const report = (await (await filter.health()).json()) as { warnings: { message: string }[] };
      return report.warnings.map(({ message }) => message).join('\n');
    };
    const batch = () => Promise.all(Array.from({ length: 25 }, () => decide(filter)));
    for (let i = 0; i < 20; i++) await batch();
    expect(await messages()).toContain('most scored calls have no account');
    expect(await messages()).not.toContain('one account makes');
  }));

it('a client certificate is an account if Cloudflare has verified it', () => {
  const caller = `export default {
    fetch: (request, env) =>
      env.FILTER.fetch(new Request(request, { cf: JSON.parse(request.headers.get('x-test-cf')) })),
  };`;
  return withFilter({ origin, caller }, async (filter) => {
    const call = (certVerified: string) =>
      decide(filter, {
        headers: {
          'x-test-cf': JSON.stringify({
            tlsClientAuth: { certPresented: '1', certVerified, certFingerprintSHA256: 'AB01' },
          }),
        },
      });
    expect(await call('SUCCESS')).toMatchObject({
      account: idOf('account.mtls', 'ab01'),
      account_kind: 'mtls',
    });
    expect(await call('FAILED:self signed certificate')).toMatchObject({ account: null });
  });
});

const GATEWAY = {
  account: ['header:x-customer-id', 'cookie:sid', 'credential'],
  tenant: ['header:x-org-id', 'jwt:org'],
};

it('gateway headers are believed with the secret, and otherwise ignored and removed', () =>
  withRelease(
    { policy: { identity: { ...GATEWAY, trusted: 'header:x-gateway', untrusted: 'strip' } } },
    async (filter) => {
      const ids = { 'x-customer-id': 'cust-17', 'x-org-id': 'acme' };
      for (const key of ['sk-1', 'sk-2']) {
        const headers = { ...bearer(key), ...ids, 'x-gateway': IDENTITY_SECRET };
        expect(await decide(filter, { headers })).toMatchObject({
          account: idOf('account.header', 'x-customer-id\0cust-17'),
          account_kind: 'header',
          tenant: idOf('tenant', 'acme'),
        });
        expect(origin.last.headers).toMatchObject(ids);
        expect(origin.last.headers).not.toHaveProperty('x-gateway');
      }
      const proofs: Record<string, string>[] = [{}, { 'x-gateway': `${IDENTITY_SECRET}x` }];
      for (const proof of proofs) {
        const decision = await decide(filter, { headers: { ...bearer('sk-1'), ...ids, ...proof } });
        expect(decision).toMatchObject({ account: idOf('account', 'sk-1'), account_kind: 'key' });
        expect(decision.tenant).toBeUndefined();
        for (const name of ['x-gateway', 'x-customer-id', 'x-org-id'])
          expect(origin.last.headers).not.toHaveProperty(name);
      }
      // The secret is also removed from requests that are not LLM calls.
      const headers = { 'x-gateway': IDENTITY_SECRET };
      await send(filter.url, { method: 'GET', path: '/', headers });
      expect(origin.last.headers).not.toHaveProperty('x-gateway');
      const cookie = await decide(filter, { headers: { cookie: 'a=b; sid=session-1' } });
      expect([cookie.account_kind, cookie.account]).toEqual([
        'cookie',
        idOf('account.cookie', 'sid\0session-1'),
      ]);
      const token = await decide(filter, { headers: bearer(jwt({ sub: 's', org: 'acme' })) });
      expect(token.tenant).toBe(idOf('tenant', 'acme'));
      const health = (await (await filter.health()).json()) as { warnings: unknown[] };
      expect(JSON.stringify(health.warnings)).not.toContain('IDENTITY_SECRET');
    },
  ));

it('a trusted gateway names the address of the client', () => {
  const gate = {
    ...signature('lantern_gate', 22),
    selections: { words: { field: { field: 'client.address', cidr: '203.0.113.0/24' } } },
  };
  const identity = { trusted: 'header:x-gateway', client_address: 'header:x-real-ip' };
  return withRelease({ policy: { identity }, signatures: [gate] }, async (filter) => {
    const call = async (address: string, secret: string) =>
      (await decide(filter, { headers: { 'x-real-ip': address, 'x-gateway': secret } })).band;
    expect(await call('203.0.113.9', IDENTITY_SECRET)).toBe('suspect');
    expect(await call('203.0.113.9', 'wrong')).toBe('clear');
    expect(await call('198.51.100.9', IDENTITY_SECRET)).toBe('clear');
  });
});

it('without a header for it, the address of a client of a gateway is unknown', () => {
  const gate = {
    ...signature('lantern_gate', 22),
    selections: { words: { field: { field: 'client.address', cidr: '198.51.100.0/24' } } },
  };
  const identity = { trusted: 'header:x-gateway' };
  return withRelease({ policy: { identity }, signatures: [gate] }, async (filter) => {
    const headers = { 'cf-connecting-ip': '198.51.100.7' };
    expect(await decide(filter, { headers })).toMatchObject({ band: 'suspect' });
    const ofGateway = { ...headers, 'x-gateway': IDENTITY_SECRET };
    expect(await decide(filter, { headers: ofGateway })).toMatchObject({ band: 'clear' });
    const health = (await (await filter.health()).json()) as { warnings: unknown[] };
    expect(JSON.stringify(health.warnings)).toContain('has no `client_address`');
  });
});

it('health warns if the secret of the gateway is missing', () =>
  withRelease(
    { policy: { identity: { ...GATEWAY, trusted: 'header:x-gateway' } } },
    async (filter) => {
      const { warnings } = (await (await filter.health()).json()) as {
        warnings: { message: string }[];
      };
      expect(warnings.map(({ message }) => message).join()).toMatch(/IDENTITY_SECRET is too short/);
      const headers = { ...bearer('sk-1'), 'x-customer-id': 'cust-17', 'x-gateway': 'short' };
      expect((await decide(filter, { headers })).account_kind).toBe('key');
      expect(origin.last.headers).toHaveProperty('x-customer-id');
    },
    { vars: { IDENTITY_SECRET: 'short' } },
  ));

for (const [name, callerProps, kind] of [
  ['with props', { hedgerow: 'identity' }, 'header'],
  ['without props', undefined, 'key'],
] as const)
  it(`headers of a service binding ${name} name the account: ${kind}`, () =>
    withRelease(
      { policy: { identity: { ...GATEWAY, trusted: 'binding' } } },
      async (filter) => {
        const headers = { ...bearer('sk-1'), 'x-customer-id': 'cust-17' };
        expect((await decide(filter, { headers })).account_kind).toBe(kind);
      },
      {
        caller: 'export default { fetch: (request, env) => env.FILTER.fetch(request) };',
        callerProps,
      },
    ));

it('the origin names account and tenant, which clients do not see', async () => {
  origin.handler = (_, res) =>
    res.writeHead(200, { 'x-hedgerow-account': 'acme/7', 'x-hedgerow-tenant': 'acme' }).end('{}');
  const headers = bearer(`sk-${shortId()}`);
  expect(await decide(filter, { headers })).toMatchObject({ account_kind: 'key' });
  expect(await decide(filter, { headers })).toMatchObject({
    account: idOf('account.origin', 'acme/7'),
    account_kind: 'origin',
    tenant: idOf('tenant', 'acme'),
  });
  for (const path of ['/v1/chat/completions', '/login']) {
    const { headers: received } = await send(filter.url, { path, headers, body: '{}' });
    expect(received).not.toHaveProperty('x-hedgerow-account');
    expect(received).not.toHaveProperty('x-hedgerow-tenant');
  }
  const other = await decide(filter, { headers: bearer(`sk-${shortId()}`) });
  expect(other).toMatchObject({ account_kind: 'key' });
});

it('the request id reaches the origin in Shadow, unless the policy turns that off', async () => {
  const { request_id } = await decide(filter, { headers: bearer('sk-1') });
  expect(tagHeaders(origin.last)).toEqual({ 'x-hedgerow-request-id': request_id });
  await withRelease({ policy: { enforce: { send_request_id: false } } }, async (filter) => {
    await decide(filter, { headers: bearer('sk-1') });
    expect(tagHeaders(origin.last)).toEqual({});
  });
});

/**
 * Returns rules with a correlation: an account becomes suspect if three of its requests match the
 * signature `lantern_red`.
 */
const rulesWithAccountCorrelation = () => ({
  signatures: [signature('lantern_red', 1)],
  correlations: [
    {
      name: 'account_lanterns',
      id: `00000000-0000-4000-8000-${sha256('account_lanterns').slice(0, 12)}`,
      title: 'Says lanterns',
      family: 'account_behavior',
      status: 'stable',
      weight: 22,
      rules: ['lantern_red'],
      group_by: ['hedgerow.account'],
      timespan: 3600,
      measure: { event_count: { thresholds: [{ comparator: 'gte', value: 3 }] } },
      ttl: 3600,
    },
  ],
});

it('forged tokens do not harm the subject that they name, but real ones count', () => {
  return withRelease(rulesWithAccountCorrelation(), async (filter) => {
    const token = (sub: string) => ({ headers: bearer(jwt({ iss: 'idp', sub })) });
    const attack = async (sub: string) => {
      for (let i = 0; i < 6; i++)
        await decide(filter, { ...token(sub), content: phrase('lantern_red') });
    };
    origin.handler = (_, res) => res.writeHead(403).end('{}');
    await attack('victim');
    origin.handler = Origin.ok;
    await attack('culprit');
    await eventually('the indicator of the culprit', async () => {
      expect((await decide(filter, token('culprit'))).band).toBe('suspect');
    });
    expect(await decide(filter, token('victim'))).toMatchObject({ band: 'clear', hits: [] });
  });
});

/** Runs a test body with two isolates of one deployment, and a policy with identity settings. */
async function withFleet(identity: object, body: (fleet: Fleet, admin: Admin) => Promise<void>) {
  const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN };
  const fleet = await Fleet.start({ origin, vars, workers: 2 });
  try {
    const bundle = makeBundle({ lantern_red: 22 }, { policy: { identity } });
    await putRelease(await fleet.kv(), keys, makeManifest(1, bundle), bundle);
    await fleet.untilRelease(1);
    await body(fleet, new Admin(fleet.edge, ADMIN_TOKEN));
  } finally {
    await fleet.dispose();
  }
}

/**
 * Waits until an isolate uses the name that the origin gave to an account in a response to another
 * isolate.
 */
const untilNamed = (edge: Edge, headers: Record<string, string>, name: string) =>
  eventually(
    `the account ${name}`,
    async () => {
      const decision = await decide(edge, { headers });
      expect(decision).toMatchObject({
        account: idOf('account.origin', name),
        account_kind: 'origin',
      });
      return decision;
    },
  );

for (const labels of [true, false])
  it(`isolates share the names of the origin, labels = ${labels}`, () =>
    withFleet({ labels }, async (fleet, admin) => {
      const [first, second] = fleet.edges as [Edge, Edge];
      const name = `acme-${shortId()}/<b>`;
      const tenant = `tenant-${shortId()}`;
      const answer = { 'x-hedgerow-account': name, 'x-hedgerow-tenant': tenant };
      const [refused, accepted] = [bearer(`sk-${shortId()}`), bearer(`sk-${shortId()}`)];
      // Isolates share only names of credentials that the origin accepts. Otherwise, a flood of
      // made-up keys could fill the table of names.
      origin.handler = (_, res) => res.writeHead(403, answer).end('{}');
      await decide(first, { headers: refused });
      origin.handler = (_, res) => res.writeHead(200, answer).end('{}');
      await decide(first, { headers: accepted });
      origin.handler = Origin.ok;
      const labelsOf = ({ account_label, tenant_label }: DecisionLine) => [
        account_label,
        tenant_label,
      ];
      const expected = labels ? [name, tenant] : [undefined, undefined];
      const shared = await untilNamed(second, accepted, name);
      expect(shared.tenant).toBe(idOf('tenant', tenant));
      expect(labelsOf(shared)).toEqual(expected);
      expect(await decide(second, { headers: refused })).toMatchObject({ account_kind: 'key' });
      const { value, metadata } = await (await fleet.kv()).getWithMetadata('names');
      expect(value).toContain(idOf('account.origin', name));
      expect(value!.includes(name)).toBe(labels);
      // The request is not clear, because the ledger stores only a sample of clear decisions.
      const call = { headers: accepted, content: phrase('lantern_red') };
      const { request_id } = await decide(second, call);
      await eventually('the decision', async () => {
        const [stored] = (await admin.getOk(`/decisions?id=${request_id}`)).decisions;
        expect(stored).toMatchObject({ account: idOf('account.origin', name) });
        expect(labelsOf(stored)).toEqual(expected);
      });
      const { principals } = await admin.getOk('/status');
      expect(principals).toMatchObject({ count: 1, labels: labels ? 2 : 0, problem: null });
      await fleet.restart();
      const restarted = await untilNamed(fleet.edge, accepted, name);
      expect(labelsOf(restarted)).toEqual(expected);
      // Isolates reject a value that the registry has not signed.
      const forged = value!.replace(idOf('tenant', tenant), '0'.repeat(32));
      await (await fleet.kv()).put('names', forged, { metadata });
      await eventually(
        'the rejection',
        async () => {
          const decision = await decide(fleet.edge, { headers: accepted });
          expect(decision.tenant).toBe(idOf('tenant', tenant));
          const log = fleet.logs.map(({ message }) => message).join();
          expect(log).toMatch(/was not published by this/);
        },
      );
    }),
  );

it('the operator names accounts by request id, by id and by name', () =>
  withFleet({}, async (fleet, admin) => {
    const [first, second] = fleet.edges as [Edge, Edge];
    const [sent, known] = [bearer(`sk-${shortId()}`), bearer('sk-known')];
    const { request_id } = await decide(first, { headers: sent, content: phrase('lantern_red') });
    await eventually('the decision', async () => {
      expect((await admin.getOk(`/decisions?id=${request_id}`)).decisions).toHaveLength(1);
    });
    const post = (principals: unknown[]) => admin.call('POST', '/principals', { principals });
    const rejected = await post([
      { request_id, account: 'acme/7' },
      { tenant: 'acme' },
      { id: 'x', tenant: 'acme' },
    ]);
    expect([rejected.status, rejected.body.error.code]).toEqual([400, 'invalid']);
    expect(rejected.body.error.message).toMatch(/principals\[1\]: .*principals\[2\]: /);
    expect((await admin.getOk('/status')).principals.count).toBe(0);
    const id = idOf('account', 'sk-known');
    const { status, body } = await post([
      { request_id, account: 'acme/7' },
      { request_id: 'unknown', account: 'acme/7' },
      { id, account: 'acme/8' },
      { account: 'acme/7', tenant: 'acme' },
    ]);
    expect([status, body.stored]).toEqual([200, 3]);
    const statuses = body.principals.map(({ status }: { status: string }) => status);
    expect(statuses).toEqual(['stored', 'unknown_request', 'stored', 'stored']);
    expect(body.principals[2].id).toBe(id);
    for (const edge of [first, second]) {
      const decision = await untilNamed(edge, sent, 'acme/7');
      expect(decision.tenant).toBe(idOf('tenant', 'acme'));
      expect((await untilNamed(edge, known, 'acme/8')).tenant).toBeUndefined();
    }
    const reader = await new Admin(fleet.edge, 'wrong-token-of-20-characters').call(
      'POST',
      '/principals',
      { principals: [] },
    );
    expect(reader.status).toBe(401);
  }),
);

it('headers are believed if Cloudflare Access vouches for the request', () => {
  const [team, audience] = ['hedge-team', 'a1'.repeat(32)];
  const pairs = [1, 2].map(() => generateKeyPairSync('rsa', { modulusLength: 2048 }));
  const [known, unknown] = pairs as [(typeof pairs)[0], (typeof pairs)[0]];
  const kid = 'key-1';
  const jwk = { ...known.publicKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' };
  const issuer = `https://${team}.cloudflareaccess.com`;
  const assertion = (claims: object = {}, header: object = {}, key = known.privateKey) => {
    const now = Math.floor(Date.now() / 1000);
    const machine = { type: 'app', common_name: '0123abcd.access', sub: '' };
    const payload = { iss: issuer, aud: [audience], exp: now + 600, ...machine, ...claims };
    const parts = [{ alg: 'RS256', kid, ...header }, payload];
    const text = parts.map((part) => base64url(JSON.stringify(part))).join('.');
    return `${text}.${createSign('RSA-SHA256').update(text).sign(key, 'base64url')}`;
  };
  const valid = assertion();
  const rows: [name: string, assertion: string | undefined, isTrusted: boolean][] = [
    ['valid', valid, true],
    ['none', undefined, false],
    ['another key', assertion({}, {}, unknown.privateKey), false],
    ['an unknown key id', assertion({}, { kid: 'key-2' }), false],
    ['another application', assertion({ aud: ['b1'.repeat(32)] }), false],
    ['another team', assertion({ iss: 'https://other.cloudflareaccess.com' }), false],
    ['expired', assertion({ exp: 1_700_000_000 }), false],
    ['unsigned', assertion({}, { alg: 'none' }), false],
    ['a person', assertion({ sub: '7335d417', email: 'a@example.com', common_name: '' }), false],
    ['changed', valid.replace(/.{3}$/, 'AAA'), false],
    ['junk', 'junk', false],
    ['valid again', valid, true],
  ];
  const identity = { ...GATEWAY, trusted: `access:${team}/${audience}` };
  const hosts = { [`${issuer}/cdn-cgi/access/certs`]: { keys: [{ kty: 'EC' }, jwk] } };
  return withRelease(
    { policy: { identity } },
    async (filter) => {
      for (const [name, token, isTrusted] of rows) {
        const headers = {
          ...bearer('sk-1'),
          'x-customer-id': 'cust-17',
          ...(token && { 'cf-access-jwt-assertion': token }),
        };
        const { account_kind } = await decide(filter, { headers });
        expect([name, account_kind]).toEqual([name, isTrusted ? 'header' : 'key']);
      }
    },
    { hosts },
  );
});

it('requests wait for the same keys of Cloudflare Access, also after a failure', () => {
  const [team, audience] = ['hedge-team', 'b2'.repeat(32)];
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'key-1', alg: 'RS256', use: 'sig' };
  const issuer = `https://${team}.cloudflareaccess.com`;
  const claims = { iss: issuer, aud: audience, common_name: '0123abcd.access', sub: '' };
  const payload = { ...claims, exp: Math.floor(Date.now() / 1000) + 600 };
  const parts = [{ alg: 'RS256', kid: 'key-1' }, payload];
  const text = parts.map((part) => base64url(JSON.stringify(part))).join('.');
  const token = `${text}.${createSign('RSA-SHA256').update(text).sign(privateKey, 'base64url')}`;
  let fetches = 0;
  const answer = (res: ServerResponse) => {
    fetches++;
    if (fetches === 1) res.writeHead(500).end();
    else setTimeout(() => res.end(JSON.stringify({ keys: [jwk] })), 500);
  };
  const identity = { ...GATEWAY, trusted: `access:${team}/${audience}` };
  return withRelease(
    { policy: { identity } },
    async (filter) => {
      const kind = async () => {
        const proof = { 'cf-access-jwt-assertion': token };
        const headers = { ...bearer('sk-1'), 'x-customer-id': 'c', ...proof };
        return (await decide(filter, { headers })).account_kind;
      };
      const warnings = async () => JSON.stringify(await (await filter.health()).json());
      expect(await kind()).toBe('key');
      expect(await warnings()).toContain('keys of Cloudflare Access cannot be fetched');
      await sleep(1_100);
      const kinds = await Promise.all(Array.from({ length: 5 }, kind));
      expect(kinds).toEqual(Array.from({ length: 5 }, () => 'header'));
      expect(fetches).toBe(2);
      expect(await warnings()).not.toContain('cannot be fetched');
      expect(await kind()).toBe('header');
    },
    { hosts: { [`${issuer}/cdn-cgi/access/certs`]: answer } },
  );
});

it('without the keys of Cloudflare Access, requests are served and not trusted', () => {
  const identity = { ...GATEWAY, trusted: `access:hedge-team/${'a1'.repeat(32)}` };
  return withRelease(
    { policy: { identity } },
    async (filter) => {
      const now = Math.floor(Date.now() / 1000);
      const parts = [
        { alg: 'RS256', kid: 'k' },
        {
          iss: 'https://hedge-team.cloudflareaccess.com',
          aud: 'a1'.repeat(32),
          exp: now + 600,
          common_name: '0123abcd.access',
        },
      ];
      const token = [...parts.map((part) => base64url(JSON.stringify(part))), 'c2ln'].join('.');
      const headers = { ...bearer('sk-1'), 'x-customer-id': 'c', 'cf-access-jwt-assertion': token };
      expect(await decide(filter, { headers })).toMatchObject({ account_kind: 'key' });
    },
    { hosts: {} },
  );
});

it('junk before a key gives few accounts, and placeholders give none', () =>
  withFilter({ origin }, async (filter) => {
    const accountOf = async (headers: Record<string, string>) =>
      (await decide(filter, { headers })).account;
    const junk = () => bearer(`sk-junk-${shortId()}-${shortId()}`);
    const key = `sk-real-${shortId()}`;
    const accounts = new Set<string>();
    for (let i = 0; i < 20; i++) accounts.add(await accountOf({ ...junk(), 'api-key': key }));
    expect(accounts.size).toBe(6);
    expect(await accountOf({ ...junk(), 'api-key': key })).toBe(idOf('account', key));
    // If the origin has already accepted a key without other credentials, the key counts at once.
    const other = `sk-other-${shortId()}`;
    await accountOf({ 'api-key': other });
    expect(await accountOf({ ...junk(), 'api-key': other })).toBe(idOf('account', other));
    // If the origin refuses requests, their keys do not start to count.
    origin.handler = (_, res) => res.writeHead(401).end('{}');
    const refused = `sk-refused-${shortId()}`;
    for (let i = 0; i < 8; i++) await accountOf({ ...junk(), 'api-key': refused });
    const last = await accountOf({ ...junk(), 'api-key': refused });
    expect(last).not.toBe(idOf('account', refused));
    origin.handler = Origin.ok;
    for (const dummy of ['none', 'EMPTY', 'not-needed'])
      expect(await accountOf({ ...bearer(dummy), 'api-key': `${key}-${dummy}` })).toBe(
        idOf('account', `${key}-${dummy}`),
      );
  }));

it('a forged token before a key does not convict the subject that it names', () => {
  return withRelease(rulesWithAccountCorrelation(), async (filter) => {
    const token = (sub: string) => bearer(jwt({ iss: 'idp', sub }));
    const content = phrase('lantern_red');
    // This origin authenticates by `api-key` and ignores `Authorization`.
    for (let i = 0; i < 6; i++) {
      const headers = { ...token('victim'), 'api-key': `sk-attacker-${shortId()}` };
      await decide(filter, { headers, content });
    }
    for (let i = 0; i < 6; i++) await decide(filter, { headers: token('culprit'), content });
    await eventually('the indicator of the culprit', async () => {
      expect((await decide(filter, { headers: token('culprit') })).band).toBe('suspect');
    });
    expect(await decide(filter, { headers: token('victim') })).toMatchObject({ band: 'clear' });
  });
});

it('a forged token that five keys have come with does not convict the subject', () => {
  return withRelease(rulesWithAccountCorrelation(), async (filter) => {
    const { authorization: forged } = bearer(jwt({ iss: 'idp', sub: 'victim' }));
    const attack = (key: string, content?: string) =>
      decide(filter, { headers: { authorization: `Bearer ${key}`, 'api-key': forged }, content });
    for (let i = 0; i < 6; i++) await attack(`sk-attacker-${shortId()}`);
    for (let i = 0; i < 6; i++) await attack('sk-attacker', phrase('lantern_red'));
    await eventually('the indicator of the attacker', async () => {
      expect((await attack('sk-attacker')).band).toBe('suspect');
    });
    const headers = { authorization: forged };
    expect(await decide(filter, { headers })).toMatchObject({ band: 'clear' });
  });
});
