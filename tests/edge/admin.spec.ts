// The admin API: authorisation, responses and the audit log. Every response is checked against
// docs/openapi.yaml.
import { afterEach, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { coveredCalls, OPERATIONS } from './openapi.ts';
import {
  Admin,
  ADMIN_TOKEN,
  type Bundle,
  canonicalJson,
  EMBEDDED,
  epochSeconds,
  makeBundle,
  makeManifest,
  READ_TOKEN,
  signBundle,
  signRelease,
} from './release-fixtures.ts';
import { eventually, Origin, send, sha256, useFleet, useOrigin } from './support.ts';

const keys = keyPair();
const ADDRESS = '203.0.113.77';
/** A token that is one character too short. */
const SHORT_TOKEN = 'x'.repeat(19);

const origin = useOrigin(Origin.ok);
const tokens = (ADMIN_TOKEN?: string, READ_TOKEN?: string) => ({
  vars: { ADMIN_TOKEN, READ_TOKEN },
});
const fleet = useFleet({
  origin,
  vars: { PUBLIC_KEYS: keys.publicKey },
  edges: [
    tokens(ADMIN_TOKEN, READ_TOKEN),
    tokens(),
    tokens('short', SHORT_TOKEN),
    tokens(ADMIN_TOKEN),
  ],
});
const admin = new Admin(fleet.edge, ADMIN_TOKEN, { 'cf-connecting-ip': ADDRESS });
const reader = new Admin(fleet.edge, READ_TOKEN);
// Calls of the admin API must not reach the origin.
afterEach(() =>
  expect(origin.requests.filter(({ path }) => path.includes('_hedgerow'))).toEqual([]),
);

const first = makeBundle({ lantern_red: 22, ferry_slow: 9 });
const second = makeBundle(
  { lantern_red: 25, meadow_wide: 9 },
  {
    policy: { bands: { suspect: 60 } },
    lists: [
      {
        name: 'list_known',
        title: 'Known',
        kind: 'as_number',
        weight: 5,
        entries: [{ value: '64496' }, { value: '64497' }],
      },
    ],
  },
);

const GETS = [
  '/bundles',
  `/bundles/${first.digest}`,
  '/releases',
  '/releases/current',
  `/diff?from=${EMBEDDED}&to=${first.digest}`,
  '/audit',
  '/status',
];
const WRITES: [string, string][] = [
  ['PUT', `/bundles/${first.digest}`],
  ['POST', '/releases'],
  ['POST', '/promote'],
  ['POST', '/rollback'],
  ['POST', '/principals'],
  ['POST', '/stop'],
];

describe('authorisation', () => {
  it('without tokens, or with short ones, all its paths are unknown', async () => {
    for (const edge of fleet.edges.slice(1, 3)) {
      const unknown = await send(edge.url, { method: 'GET', path: '/_hedgerow/unknown' });
      for (const token of [undefined, 'short', SHORT_TOKEN, ADMIN_TOKEN]) {
        const { status, body, headers } = await new Admin(edge, token).get('/status');
        expect([status, body, headers.get('content-type')]).toEqual([
          404,
          JSON.parse(unknown.body.toString()),
          unknown.headers['content-type'],
        ]);
        expect(headers.get('www-authenticate')).toBeNull();
      }
    }
    const { warnings } = (await (await fleet.edges[2]!.health()).json()) as {
      warnings: { message: string }[];
    };
    for (const name of ['ADMIN_TOKEN', 'READ_TOKEN'])
      expect(warnings.map(({ message }) => message)).toContainEqual(expect.stringContaining(name));
  });

  it('a wrong or missing token is rejected after a delay, with a remedy', async () => {
    const wrong = [
      undefined,
      '',
      `${ADMIN_TOKEN}x`,
      ADMIN_TOKEN.slice(0, -1),
      READ_TOKEN.toUpperCase(),
    ];
    const responses = await Promise.all(
      wrong.map((token) => new Admin(fleet.edge, token).get('/status')),
    );
    for (const { status, headers, body, ms } of responses) {
      expect([status, headers.get('www-authenticate')]).toEqual([
        401,
        expect.stringMatching(/^Bearer/),
      ]);
      expect(body.error).toEqual({
        code: 'unauthorized',
        message: expect.any(String),
        remedy: expect.stringContaining('ADMIN_TOKEN'),
      });
      expect(ms).toBeGreaterThan(450);
    }
    // The correct token is accepted only in the header `Authorization: Bearer`.
    const elsewhere = [
      { authorization: `Basic ${btoa(`x:${ADMIN_TOKEN}`)}` },
      { cookie: `token=${ADMIN_TOKEN}` },
      { 'x-api-key': ADMIN_TOKEN },
    ] as Record<string, string>[];
    const misplaced = await Promise.all([
      ...elsewhere.map((headers) => new Admin(fleet.edge, undefined, headers).get('/status')),
      new Admin(fleet.edge).get(`/status?token=${ADMIN_TOKEN}&key=${ADMIN_TOKEN}`),
    ]);
    expect(misplaced.map(({ status }) => status)).toEqual(Array(4).fill(401));
  });

  it('READ_TOKEN reads everything and writes nothing', async () => {
    expect((await admin.upload(keys, first)).status).toBe(201);
    expect((await admin.publish(keys, makeManifest(1, first, { note: 'the first' }))).status).toBe(
      201,
    );
    for (const path of GETS) expect([path, (await reader.get(path)).status]).toEqual([path, 200]);
    for (const [method, path] of WRITES) {
      const { status, body } = await reader.call(method, path, {
        bundle: first.text,
        release: makeManifest(2, first),
        signature: signBundle(keys, first).signature,
      });
      expect([path, status, body.error.code]).toEqual([path, 403, 'scope']);
    }
    expect((await reader.getOk('/releases/current')).serial).toBe(1);
  });

  it('ADMIN_TOKEN reads everything, with or without a READ_TOKEN', async () => {
    for (const path of GETS) expect([path, (await admin.get(path)).status]).toEqual([path, 200]);
    const withoutReadToken = fleet.edges[3]!;
    expect((await new Admin(withoutReadToken, ADMIN_TOKEN).get('/status')).status).toBe(200);
    expect((await new Admin(withoutReadToken, READ_TOKEN).get('/status')).status).toBe(401);
    expect((await new Admin(withoutReadToken, '').get('/status')).status).toBe(401);
  });
});

describe('responses', () => {
  it('unknown paths are answered with 404, unknown methods with 405', async () => {
    for (const path of ['', '/', '/bundle', '/releases/1', '/status/x', '/pull', '/auth']) {
      const { status, body } = await admin.get(path);
      expect([path, status, body.error.code]).toEqual([path, 404, 'not_found']);
    }
    const rows = [
      ['DELETE', `/bundles/${first.digest}`],
      ['POST', '/bundles'],
      ['PUT', '/releases'],
      ['GET', '/promote'],
      ['GET', '/rollback'],
      ['POST', '/status'],
      ['POST', '/audit'],
    ] as const;
    for (const [method, path] of rows) {
      const { status, body } = await admin.call(method, path, method === 'GET' ? undefined : {});
      expect([method, path, status, body.error.code]).toEqual([method, path, 405, 'method']);
    }
  });

  it('malformed bodies are answered with 400', async () => {
    const { signature } = signRelease(keys, makeManifest(2, first));
    const rows: unknown[] = [
      '',
      'null',
      '[]',
      '7',
      '{"release"',
      '{}',
      { release: makeManifest(2, first) },
      { signature },
      { release: JSON.parse(makeManifest(2, first)), signature },
      { release: makeManifest(2, first), signature: 7 },
      `{"release":"\\ud800","signature":7}`,
    ];
    for (const [method, path] of WRITES) {
      for (const body of rows) {
        const response = await admin.call(method, path, body);
        expect([path, body, response.status, response.body.error.code]).toEqual([
          path,
          body,
          400,
          'invalid',
        ]);
      }
    }
    expect(
      (
        await admin.call('PUT', '/bundles/no-digest', {
          bundle: first.text,
          signature: signBundle(keys, first).signature,
        })
      ).status,
    ).toBeOneOf([400, 404, 422]);
    expect((await admin.get(`/bundles/${'0'.repeat(64)}`)).body.error.code).toBe('not_found');
    expect((await admin.get('/bundles/no-digest')).status).toBeOneOf([400, 404]);
  });

  it('bundles are stored once, listed newest first, and returned byte for byte', async () => {
    const uploaded = await admin.upload(keys, second);
    expect([uploaded.status, uploaded.body]).toEqual([
      201,
      {
        digest: second.digest,
        content: expect.stringMatching(/^[0-9a-f]{64}$/),
        serial: second.serial,
        created: expect.any(Number),
        bytes: Buffer.byteLength(second.text),
        signatures: 2,
        lists: 1,
        uploaded: expect.any(Number),
      },
    ]);
    expect(Math.abs(uploaded.body.uploaded - epochSeconds())).toBeLessThan(60);
    const again = await admin.upload(keys, second);
    expect([again.status, again.body]).toEqual([200, uploaded.body]);
    const { bundles } = await admin.getOk('/bundles');
    expect(bundles.map(({ digest }: { digest: string }) => digest)).toEqual([
      second.digest,
      first.digest,
    ]);
    const { digest, bundle, signature } = await reader.getOk(`/bundles/${second.digest}`);
    expect([digest, bundle]).toEqual([second.digest, second.text]);
    expect(signature).toContain(`hedgerow bundle ${second.digest}`);
  });

  it('releases are listed newest first, each with the text that was signed', async () => {
    for (let serial = 2; serial <= 4; serial++)
      expect(
        (
          await admin.publish(
            keys,
            makeManifest(serial, serial % 2 ? first : second, { note: `number ${serial}` }),
          )
        ).status,
      ).toBeOneOf([201, 202]);
    const { releases } = await admin.getOk('/releases?limit=2');
    expect(releases.map(({ serial }: { serial: number }) => serial)).toEqual([4, 3]);
    const current = await admin.getOk('/releases/current');
    expect(current).toEqual(releases[0]);
    expect(current).toMatchObject({
      serial: 4,
      kind: 'release',
      key: keys.publicKey,
      release: { release: 1, serial: 4, active: second.digest, note: 'number 4', author: 'ana' },
    });
    expect(JSON.parse(current.text)).toEqual(current.release);
    expect((await admin.getOk('/releases')).releases.length).toBe(4);
    for (const query of ['limit=0', 'limit=101', 'limit=x', 'limit=-1'])
      expect([query, (await admin.get(`/releases?${query}`)).status]).toEqual([
        query,
        expect.toBeOneOf([200, 400]),
      ]);
    expect(
      (await admin.get('/releases?limit=100000')).body.releases?.length ?? 0,
    ).toBeLessThanOrEqual(100);
  });

  it('promote and rollback are rejected unless they match the release in force', async () => {
    const call = async (endpoint: 'promote' | 'rollback', manifest: string) => {
      const { status, body } = await admin.publish(keys, manifest, endpoint);
      return [status, body.error?.code ?? body.serial];
    };
    const accepted = expect.toBeOneOf([201, 202]);
    // Rejected, because no canary exists that could be promoted, and a rollback to the active
    // bundle `second` would change nothing.
    expect(await call('promote', makeManifest(7, first))).toEqual([409, 'precondition']);
    expect(await call('rollback', makeManifest(7, second))).toEqual([409, 'precondition']);
    const third = makeBundle({ hedge_tall: 12 });
    await admin
      .release(
        keys,
        7,
        second,
        { canary: { digest: third.digest, percent: 5 }, shadow: { digest: first.digest } },
        third,
      )
      .catch(() => {});
    expect((await admin.getOk('/releases/current')).serial).toBe(7);
    const canary = { digest: third.digest, percent: 50 };
    expect(await call('promote', makeManifest(8, first))).toEqual([409, 'precondition']);
    expect(await call('promote', makeManifest(8, third, { canary }))).toEqual([
      409,
      'precondition',
    ]);
    expect(await call('promote', makeManifest(7, third))).toEqual([409, 'serial']);
    expect(await call('rollback', makeManifest(8, third))).toEqual([409, 'precondition']);
    expect(
      await call('rollback', makeManifest(8, first, { shadow: { digest: second.digest } })),
    ).toEqual([409, 'precondition']);
    const conflict = await admin.publish(keys, makeManifest(8, first), 'promote');
    expect(conflict.body.error).toMatchObject({
      serial: 7,
      message: expect.any(String),
      remedy: expect.any(String),
    });
    expect(await call('promote', makeManifest(8, third))).toEqual([accepted, 8]);
    expect(await call('rollback', makeManifest(9, first))).toEqual([accepted, 9]);
    expect(await call('rollback', makeManifest(10, EMBEDDED))).toEqual([accepted, 10]);
    expect(await call('rollback', makeManifest(11, EMBEDDED))).toEqual([409, 'precondition']);
    await admin.publish(keys, makeManifest(11, first, { shadow: { digest: second.digest } }));
    expect(await call('promote', makeManifest(12, second))).toEqual([accepted, 12]);
    const kinds = (await admin.getOk('/releases?limit=6')).releases.map(
      ({ serial, kind }: { serial: number; kind: string }) => [serial, kind],
    );
    expect(kinds).toEqual([
      [12, 'promote'],
      [11, 'release'],
      [10, 'rollback'],
      [9, 'rollback'],
      [8, 'promote'],
      [7, 'release'],
    ]);
  });

  it('diff lists the changes between two bundles', async () => {
    expect(await admin.getOk(`/diff?from=${first.digest}&to=${second.digest}`)).toEqual({
      added: ['meadow_wide'],
      removed: ['ferry_slow'],
      weights: [{ name: 'lantern_red', from: 22, to: 25 }],
      changed: [],
      concepts: [],
      lists: [{ name: 'list_known', added: 2, removed: 0 }],
      policy: [{ path: 'bands.suspect', from: 50, to: 60 }],
    });
    const none = { added: [], removed: [], weights: [], changed: [], lists: [], policy: [] };
    const noChanges = { ...none, concepts: [] };
    expect(await admin.getOk(`/diff?from=${first.digest}&to=${first.digest}`)).toEqual(noChanges);
    expect(await admin.getOk('/diff?from=embedded&to=embedded')).toEqual(noChanges);
    expect(
      (await admin.getOk(`/diff?from=embedded&to=${first.digest}`)).removed.length,
    ).toBeGreaterThan(40);
    for (const query of [
      '',
      '?from=embedded',
      `?to=${first.digest}`,
      `?from=x&to=${first.digest}`,
      `?from=${'0'.repeat(64)}&to=embedded`,
    ]) {
      const { status, body } = await admin.get(`/diff${query}`);
      expect([query, status, body.error?.remedy]).toEqual([
        query,
        expect.toBeOneOf([400, 404, 422]),
        expect.any(String),
      ]);
    }
  });

  it('status describes the release in force', async () => {
    const status = await reader.status();
    const { ruleset } = await fleet.edges[1]!.version();
    expect(status).toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      keys: [keys.publicKey],
      release: { serial: 12, kind: 'promote' },
      pull: null,
      ledger: { reachable: true },
      traffic: { seconds: 60 },
    });
    expect(Math.abs(status.now - epochSeconds())).toBeLessThan(60);
    expect([status.embedded, ruleset]).toEqual([
      expect.stringMatching(/^[0-9a-f]{64}$/),
      expect.any(String),
    ]);
    expect((await reader.status('?minutes=5')).traffic.seconds).toBe(300);
    for (const minutes of ['0', '43201', 'x', '-1', '1.5'])
      expect([minutes, (await reader.get(`/status?minutes=${minutes}`)).status]).toEqual([
        minutes,
        expect.toBeOneOf([200, 400]),
      ]);
  });

  it('bundles that decide alike have the same content digest', async () => {
    const { content, digest } = await described(makeBundle({ willow_tall: 9 }));
    const again = await described(makeBundle({ willow_tall: 9 }));
    expect([again.content, again.digest === digest]).toEqual([content, false]);
    const members = JSON.parse(makeBundle({ willow_tall: 9 }).text);
    for (const name of ['serial', 'created', 'sources']) delete members[name];
    expect(content).toBe(sha256(canonicalJson(members)));
    const changed = [
      makeBundle({ willow_tall: 10 }),
      makeBundle({ willow_wide: 9 }),
      makeBundle({ willow_tall: 9 }, { policy: { mode: 'enforce' } }),
    ];
    for (const bundle of changed) expect((await described(bundle)).content).not.toBe(content);
    const { release, embedded_content } = await reader.status();
    expect(embedded_content).toMatch(/^[0-9a-f]{64}$/);
    const current = await reader.getOk('/releases/current');
    expect(release.contents).toEqual({ [second.digest]: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(current.contents).toEqual(release.contents);
  });

  /** Uploads a bundle, and returns its description in the list of bundles. */
  async function described(bundle: Bundle) {
    const { body } = await admin.upload(keys, bundle);
    const { bundles } = await reader.getOk('/bundles');
    const stored = bundles.find(({ digest }: { digest: string }) => digest === bundle.digest);
    expect(stored).toEqual(body);
    return stored;
  }

  it('the audit log has caller, action, time, client hash and result, but no address', async () => {
    await admin.upload(keyPair(), first);
    await admin.publish(keys, makeManifest(3, first));
    const { entries } = await admin.getOk('/audit?limit=500');
    expect(entries.map(({ id }: { id: number }) => id)).toEqual(
      [...entries.map(({ id }: { id: number }) => id)].sort((a, b) => b - a),
    );
    expect(entries[0]).toMatchObject({
      actor: 'admin',
      action: 'release',
      result: 'serial',
      subject: expect.stringContaining('3'),
    });
    expect(entries[1]).toMatchObject({
      actor: 'admin',
      action: 'bundle.upload',
      result: 'signature',
      subject: expect.stringContaining(first.digest.slice(0, 12)),
    });
    const expectEntry = (members: object) =>
      expect(entries).toContainEqual(expect.objectContaining(members));
    expectEntry({ actor: 'admin', action: 'bundle.upload', result: 'ok' });
    expectEntry({ actor: 'admin', action: 'release', author: 'ana', result: 'ok' });
    expectEntry({ actor: 'admin', action: 'promote', result: 'ok' });
    expectEntry({ actor: 'admin', action: 'rollback', result: 'ok' });
    expectEntry({ actor: 'admin', action: 'promote', result: 'precondition' });
    expectEntry({ actor: 'nobody', action: 'auth' });
    // An isolate reports a rejected request only after the response.
    await eventually('the entry of a write with READ_TOKEN', async () =>
      expect((await admin.getOk('/audit?limit=500')).entries).toContainEqual(
        expect.objectContaining({
          actor: 'read',
          action: 'rejected',
          subject: expect.stringMatching(/^(PUT|POST) \/_hedgerow\/v1\//),
          result: 'scope',
        }),
      ),
    );
    expectEntry({ actor: 'admin', result: 'invalid' });
    const isChange = ({ actor, action }: { actor: string; action: string }) =>
      actor === 'admin' && action !== 'auth';
    const clients = entries.filter(isChange).map(({ client }: { client: string }) => client);
    expect([...new Set(clients)]).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/)]);
    for (const { at } of entries) expect(Math.abs(at - epochSeconds())).toBeLessThan(300);
    const texts = [JSON.stringify(entries), fleet.logs.map(({ message }) => message).join('\n')];
    for (const text of texts)
      for (const secret of [ADDRESS, ADMIN_TOKEN, READ_TOKEN]) expect(text).not.toContain(secret);
    // Two successive pages contain the same entries as one page of twice the size.
    const page = (await admin.getOk('/audit?limit=4')).entries;
    const nextPage = (await admin.getOk(`/audit?limit=4&before=${page.at(-1).id}`)).entries;
    expect([...page, ...nextPage]).toEqual((await admin.getOk('/audit?limit=8')).entries);
  });

  it('every call that other specs do not cover has succeeded once', () => {
    const coveredElsewhere =
      /\/v1\/(indicators|clusters|series|metrics|decisions|live|principals|stop)/;
    const calls = OPERATIONS.map(({ method, path }) => `${method.toUpperCase()} ${path}`).filter(
      (call) => call.includes('/v1/') && !coveredElsewhere.test(call),
    );
    expect(
      calls.filter(
        (call) => ![...coveredCalls].some((covered) => covered.startsWith(`${call} 20`)),
      ),
    ).toEqual([]);
  });
});
