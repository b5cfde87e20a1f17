// The requests that the origin gets: headers that describe the client, the origin's secret, tags
// under two secrets, and a client certificate.
import { expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { keyPair } from './minisign.ts';
import { makeBundle, makeManifest, putRelease } from './release-fixtures.ts';
import {
  CERTIFICATE_ORIGIN,
  chat,
  enforce,
  eventually,
  type Filter,
  type FilterOptions,
  fixture,
  Origin,
  type ReceivedRequest,
  SECRETS,
  send,
  sendFixture,
  sha256,
  TAG_HEADERS,
  tagHeaders,
  tagMac,
  useOrigin,
  withFilter,
} from './support.ts';

const keys = keyPair();
const origin = useOrigin(Origin.ok);
const ORIGIN_SECRET = 'origin-secret-of-the-tests-with-32-bytes-or-more';
const NEXT_SECRET = 'next-tag-secret-of-the-tests-with-32-bytes-or-more';
const IDENTITY_SECRET = 'identity-secret-of-the-tests-with-32-bytes-or-more';
const CLIENT = '203.0.113.7';

/** Runs a test body with a filter whose release has this policy. */
const withPolicy = (
  policy: object,
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
      const bundle = makeBundle({ lantern_red: 22 }, { policy });
      await putRelease(await filter.kv(), keys, makeManifest(1, bundle), bundle);
      await eventually('the release', async () => {
        await filter.ask();
        expect((await filter.version()).release).toBe(1);
      });
      origin.requests.length = 0;
      await body(filter);
    },
  );

/** Headers with which a hostile client describes itself. */
const FORGED = {
  forwarded: 'for=192.0.2.1',
  'x-forwarded-for': '192.0.2.1, 10.0.0.1',
  x_forwarded_for: '192.0.2.1',
  'x-forwarded-host': 'internal.example',
  'x-forwarded-port': '22',
  'x-forwarded-proto': 'gopher',
  'x-real-ip': '192.0.2.1',
  'true-client-ip': '192.0.2.1',
  'x-client-ip': '192.0.2.1',
  cf_connecting_ip: '192.0.2.1',
};
const DESCRIBING = /forwarded|real.ip|client.ip|connecting/;

/**
 * Returns the headers of a request that describe the client, except `cf-connecting-ip`: workerd
 * does not send it, and Cloudflare sets it.
 */
const described = ({ headers: { 'cf-connecting-ip': _, ...headers } }: ReceivedRequest) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => DESCRIBING.test(name)));

/** Sends the kinds of requests that reach the origin in different ways: read, large and unread. */
async function sendAll(filter: Filter, headers: Record<string, string>) {
  const json = { 'content-type': 'application/json', ...headers };
  const body = JSON.stringify(chat('When do blackbirds nest?'));
  const large = JSON.stringify(chat(`When do blackbirds nest? ${'x'.repeat(6 << 20)}`));
  const calls = [
    { path: '/v1/chat/completions', headers: json, body },
    { path: '/v1/chat/completions', headers: json, body: large },
    { method: 'GET', path: '/v1/models', headers },
  ];
  for (const call of calls) expect((await send(filter.url, call)).status).toBe(200);
  return origin.requests.splice(0);
}

it('headers that describe the client pass by default', () =>
  withPolicy({}, async (filter) => {
    const headers = { ...FORGED, 'cf-connecting-ip': CLIENT };
    for (const request of await sendAll(filter, headers))
      expect(described(request)).toEqual(FORGED);
  }));

it('with forwarded = "set", they describe the connection, and no forged value survives', () =>
  withPolicy({ origin: { forwarded: 'set' } }, async (filter) => {
    const host = `127.0.0.1:${filter.port}`;
    const expected = {
      forwarded: `proto=http;host="${host}";for=${CLIENT}`,
      'x-forwarded-for': CLIENT,
      'x-forwarded-host': host,
      'x-forwarded-proto': 'http',
      'x-real-ip': CLIENT,
    };
    const headers = { ...FORGED, 'cf-connecting-ip': CLIENT, 'user-agent': 'test/1' };
    for (const request of await sendAll(filter, headers)) {
      expect(described(request)).toEqual(expected);
      expect(request.headers['user-agent']).toBe('test/1');
    }
    // Without a known address, there is none.
    for (const request of await sendAll(filter, { ...FORGED, 'cf-connecting-ip': 'nonsense' }))
      expect(described(request)).toEqual({
        forwarded: `proto=http;host="${host}"`,
        'x-forwarded-host': host,
        'x-forwarded-proto': 'http',
      });
  }));

it('with forwarded = "set", the address is that of the gateway’s client', () => {
  const identity = { trusted: 'header:x-gateway', client_address: 'header:x-of-gateway' };
  const policy = { origin: { forwarded: 'set' }, identity };
  return withPolicy(policy, async (filter) => {
    const gateway = { 'x-gateway': IDENTITY_SECRET, 'x-of-gateway': '2001:db8::7' };
    const headers = { 'cf-connecting-ip': CLIENT };
    for (const request of await sendAll(filter, { ...headers, ...gateway }))
      expect(described(request)).toMatchObject({
        forwarded: expect.stringContaining('for="[2001:db8::7]"'),
        'x-forwarded-for': '2001:db8::7',
        'x-real-ip': '2001:db8::7',
      });
    // A client without the secret of the gateway cannot name an address.
    const forged = { 'x-of-gateway': '2001:db8::7', x_of_gateway: '2001:db8::7' };
    for (const request of await sendAll(filter, { ...headers, ...forged })) {
      expect(described(request)).toMatchObject({ 'x-forwarded-for': CLIENT, 'x-real-ip': CLIENT });
      expect(JSON.stringify(request.rawHeaders)).not.toContain('2001:db8::7');
    }
  });
});

it('with forwarded = "remove", the origin does not learn the address', () =>
  withPolicy({ origin: { forwarded: 'remove' } }, async (filter) => {
    for (const request of await sendAll(filter, { ...FORGED, 'cf-connecting-ip': CLIENT })) {
      expect(described(request)).toEqual({});
      expect(JSON.stringify(request.rawHeaders)).not.toContain(CLIENT);
    }
  }));

it('the origin gets its secret with every request, and clients never see it', async () => {
  for (const originKind of ['url', 'service', 'zone'] as const)
    await withFilter({ origin, originKind, vars: { ORIGIN_SECRET } }, async (filter) => {
      origin.handler = (request, res) =>
        res
          .writeHead(200, {
            'x-hedgerow-origin-secret': request.headers['x-hedgerow-origin-secret'],
          })
          .end('{}');
      const forged = { 'x-hedgerow-origin-secret': 'forged', 'X_Hedgerow_Origin_Secret': 'forged' };
      for (const request of await sendAll(filter, forged)) {
        expect(request.headers['x-hedgerow-origin-secret']).toBe(ORIGIN_SECRET);
        expect(JSON.stringify(request.rawHeaders)).not.toContain('forged');
      }
      for (const path of ['/v1/models', '/v1/chat/completions']) {
        const response = await fetch(filter.url + path, {
          method: path.endsWith('models') ? 'GET' : 'POST',
          ...(path.endsWith('models') ? {} : { body: JSON.stringify(chat('Hello')) }),
        });
        expect([path, response.status]).toEqual([path, 200]);
        expect(JSON.stringify([...response.headers])).not.toContain(ORIGIN_SECRET);
      }
      origin.handler = Origin.ok;
      origin.requests.length = 0;
    });
});

it('the origin gets its secret with the handshake of a WebSocket', () =>
  withFilter({ origin, vars: { ORIGIN_SECRET } }, async (filter) => {
    for (const path of ['/v1/realtime?model=m', '/chat']) {
      const socket = new WebSocket(filter.url.replace('http', 'ws') + path);
      await new Promise((done, fail) => socket.once('open', done).once('error', fail));
      socket.terminate();
      expect([path, origin.last.headers['x-hedgerow-origin-secret']]).toEqual([
        path,
        ORIGIN_SECRET,
      ]);
    }
  }));

it('an origin’s secret that cannot be used is not sent, and health says so', async () => {
  for (const [secret, part] of [
    ['short', 'at least 32 visible ASCII characters'],
    ['two words that together have more than 32 bytes', 'without spaces'],
    [SECRETS.ACCOUNT_SECRET, 'equals ACCOUNT_SECRET'],
    [SECRETS.TAG_SECRET, 'equals TAG_SECRET'],
  ] as const)
    await withFilter({ origin, vars: { ORIGIN_SECRET: secret } }, async (filter) => {
      expect((await filter.ask()).status).toBe(200);
      expect(origin.last.headers).not.toHaveProperty('x-hedgerow-origin-secret');
      const { status, warnings } = await (await filter.health()).json();
      expect([status, warnings]).toEqual([
        'ok',
        [
          {
            message: expect.stringContaining(part),
            remedy: expect.stringContaining('wrangler secret put ORIGIN_SECRET'),
          },
        ],
      ]);
      expect(JSON.stringify(warnings)).not.toContain(secret);
    });
});

it('tags have a MAC for each of two secrets', async () => {
  const secrets = [SECRETS.TAG_SECRET, NEXT_SECRET];
  await withFilter({ origin, vars: { TAG_SECRET: ` ${secrets.join(' ')} ` } }, async (filter) => {
    const forged = { 'x-hedgerow-mac-next': 'forged', x_hedgerow_mac_next: 'forged' };
    await sendFixture(filter, fixture('harvest-openai'), { ...enforce('tag'), ...forged });
    const tags = tagHeaders(origin.last);
    const macs = ['x-hedgerow-mac', 'x-hedgerow-mac-next'];
    expect(Object.keys(tags).sort()).toEqual([...TAG_HEADERS, ...macs].sort());
    expect(macs.map((name) => tags[name])).toEqual(secrets.map((secret) => tagMac(tags, secret)));
    expect(JSON.stringify(origin.last.rawHeaders)).not.toContain('forged');
    expect((await (await filter.health()).json()).warnings).toEqual([]);
  });
  await withFilter({ origin, vars: { TAG_SECRET: NEXT_SECRET } }, async (filter) => {
    await sendFixture(filter, fixture('harvest-openai'), enforce('tag'));
    const tags = tagHeaders(origin.last);
    expect(Object.keys(tags).sort()).toEqual([...TAG_HEADERS, 'x-hedgerow-mac'].sort());
    expect(tags['x-hedgerow-mac']).toBe(tagMac(tags, NEXT_SECRET));
  });
});

it('unusable values of a secret are warnings', async () => {
  const rows = [
    [`${SECRETS.TAG_SECRET} short`, 'a value of TAG_SECRET is ignored', true],
    [`${SECRETS.TAG_SECRET} ${NEXT_SECRET} ${NEXT_SECRET}x`, 'TAG_SECRET has 3 values', true],
    ['short shorter', 'TAG_SECRET is too short', false],
  ] as const;
  for (const [secret, message, hasMac] of rows)
    await withFilter({ origin, vars: { TAG_SECRET: secret } }, async (filter) => {
      await sendFixture(filter, fixture('harvest-openai'), enforce('tag'));
      expect('x-hedgerow-mac' in origin.last.headers).toBe(hasMac);
      const { status, warnings } = await (await filter.health()).json();
      expect([status, warnings]).toEqual([
        'ok',
        [
          {
            message: expect.stringContaining(message),
            remedy: expect.stringContaining('wrangler secret put TAG_SECRET'),
          },
        ],
      ]);
    });
});

it('requests to a URL go through the client certificate', () =>
  withFilter({ origin, originKind: 'certificate' }, async (filter) => {
    const host = new URL(CERTIFICATE_ORIGIN).host;
    for (const { path, headers } of await sendAll(filter, {})) {
      expect(path).toMatch(/^\/base\/v1\/(models|chat\/completions)$/);
      expect(headers.host).toBe(host);
    }
    const request = fixture('harvest-openai');
    await sendFixture(filter, request, enforce('tag'));
    expect(origin.last.sha256).toBe(sha256(request.body));
    expect((await (await filter.health()).json()).warnings).toEqual([]);
  }));

it('a client certificate that is not used is a warning', async () => {
  for (const vars of [{ ORIGIN: 'zone', ORIGIN_MTLS: 'x' }, { ORIGIN_MTLS: 'not a binding' }])
    await withFilter({ origin, vars }, async (filter) => {
      const { warnings } = await (await filter.health()).json();
      expect(warnings).toEqual([
        expect.objectContaining({ message: expect.stringContaining('ORIGIN_MTLS is not used') }),
      ]);
    });
});
