// The admin API: who may do what, what it answers, and what it keeps. Every answer is held against docs/openapi.yaml.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { DOCUMENT, met } from './openapi.ts';
import { Admin, bundleOf, EMBEDDED, releaseOf, seconds, signBundle, signRelease } from './release.ts';
import { eventually, Fleet, Origin, send } from './support.ts';

const keys = keyPair();
const [PUBLISH, READ] = ['publish-token-of-the-tests', 'read-token-of-the-tests!'];
const ADDRESS = '203.0.113.77';

let origin: Origin;
let fleet: Fleet;
let admin: Admin;
let reader: Admin;
beforeAll(async () => {
  origin = await Origin.start();
  origin.answer = Origin.ok;
  const own = (ADMIN_TOKEN?: string, READ_TOKEN?: string) => ({ vars: { ADMIN_TOKEN, READ_TOKEN } });
  fleet = await Fleet.start({ origin, vars: { PUBLIC_KEYS: keys.publicKey }, edges: [own(PUBLISH, READ), own(), own('short', 'x'.repeat(19)), own(PUBLISH)] });
  admin = new Admin(fleet.edge.url, PUBLISH, { 'cf-connecting-ip': ADDRESS });
  reader = new Admin(fleet.edge.url, READ);
});
afterAll(async () => {
  await fleet?.dispose();
  await origin?.close();
});

const first = bundleOf({ lantern_red: 22, ferry_slow: 9 });
const second = bundleOf({ lantern_red: 25, meadow_wide: 9 }, { policy: { bands: { suspect: 60 } }, lists: [{ name: 'list_known', title: 'Known', kind: 'as_number', weight: 5, entries: [{ value: '64496' }, { value: '64497' }] }] });

const GETS = ['/bundles', `/bundles/${first.digest}`, '/releases', '/releases/current', `/diff?from=${EMBEDDED}&to=${first.digest}`, '/audit', '/status'];
const WRITES: [string, string][] = [['PUT', `/bundles/${first.digest}`], ['POST', '/releases'], ['POST', '/promote'], ['POST', '/rollback']];

describe('who may', () => {
  it('without tokens, or with short ones, there is no API: nothing tells it from a path that does not exist', async () => {
    for (const edge of fleet.edges.slice(1, 3)) {
      const unknown = await send(edge.url, { method: 'GET', path: '/_hedgerow/unknown' });
      for (const token of [undefined, 'short', 'x'.repeat(19), PUBLISH]) {
        const { status, body, headers } = await new Admin(edge.url, token).get('/status');
        expect([status, body, headers.get('content-type')]).toEqual([404, JSON.parse(unknown.body.toString()), unknown.headers['content-type']]);
        expect(headers.get('www-authenticate')).toBeNull();
      }
    }
    const { warnings } = (await (await fleet.edges[2]!.health()).json()) as { warnings: { message: string }[] };
    for (const name of ['ADMIN_TOKEN', 'READ_TOKEN']) expect(warnings.map(({ message }) => message)).toContainEqual(expect.stringContaining(name));
  });

  it('a wrong token, or none, waits and is told how', async () => {
    const tokens = [undefined, '', `${PUBLISH}x`, PUBLISH.slice(0, -1), READ.toUpperCase()];
    const answers = await Promise.all(tokens.map((token) => new Admin(fleet.edge.url, token).get('/status')));
    for (const { status, headers, body, ms } of answers) {
      expect([status, headers.get('www-authenticate')]).toEqual([401, expect.stringMatching(/^Bearer/)]);
      expect(body.error).toEqual({ code: 'unauthorized', message: expect.any(String), remedy: expect.stringContaining('ADMIN_TOKEN') });
      expect(ms).toBeGreaterThan(450);
    }
    // Not as basic, not in the query, not as a cookie.
    const others = [{ authorization: `Basic ${btoa(`x:${PUBLISH}`)}` }, { cookie: `token=${PUBLISH}` }, { 'x-api-key': PUBLISH }] as Record<string, string>[];
    const odd = await Promise.all([...others.map((headers) => new Admin(fleet.edge.url, undefined, headers).get('/status')), new Admin(fleet.edge.url).get(`/status?token=${PUBLISH}&key=${PUBLISH}`)]);
    expect(odd.map(({ status }) => status)).toEqual(Array(4).fill(401));
  });

  it('a token that reads reads all, and writes nothing', async () => {
    expect((await admin.upload(keys, first)).status).toBe(201);
    expect((await admin.publish(keys, releaseOf(1, first, { note: 'the first' }))).status).toBe(201);
    for (const path of GETS) expect([path, (await reader.get(path)).status]).toEqual([path, 200]);
    for (const [method, path] of WRITES) {
      const { status, body } = await reader.call(method, path, { bundle: first.text, release: releaseOf(2, first), signature: signBundle(keys, first).signature });
      expect([path, status, body.error.code]).toEqual([path, 403, 'scope']);
    }
    expect((await reader.got('/releases/current')).serial).toBe(1);
  });

  it('a token that publishes reads, too; where it is alone, it is alone', async () => {
    for (const path of GETS) expect([path, (await admin.get(path)).status]).toEqual([path, 200]);
    const alone = fleet.edges[3]!.url;
    expect((await new Admin(alone, PUBLISH).get('/status')).status).toBe(200);
    expect((await new Admin(alone, READ).get('/status')).status).toBe(401);
    expect((await new Admin(alone, '').get('/status')).status).toBe(401);
  });
});

describe('what it answers', () => {
  it('unknown paths and methods are told', async () => {
    for (const path of ['', '/', '/bundle', '/releases/1', '/status/x', '/pull', '/auth']) {
      const { status, body } = await admin.get(path);
      expect([path, status, body.error.code]).toEqual([path, 404, 'not_found']);
    }
    const rows = [['DELETE', `/bundles/${first.digest}`], ['POST', '/bundles'], ['PUT', '/releases'], ['GET', '/promote'], ['GET', '/rollback'], ['POST', '/status'], ['POST', '/audit']] as const;
    for (const [method, path] of rows) {
      const { status, body } = await admin.call(method, path, method === 'GET' ? undefined : {});
      expect([method, path, status, body.error.code]).toEqual([method, path, 405, 'method']);
    }
  });

  it('bodies that are not what is asked for are told', async () => {
    const { signature } = signRelease(keys, releaseOf(2, first));
    const rows: unknown[] = ['', 'null', '[]', '7', '{"release"', '{}', { release: releaseOf(2, first) }, { signature }, { release: JSON.parse(releaseOf(2, first)), signature }, { release: releaseOf(2, first), signature: 7 }, `{"release":"\\ud800","signature":7}`];
    for (const [method, path] of WRITES) {
      for (const body of rows) {
        const answer = await admin.call(method, path, body);
        expect([path, body, answer.status, answer.body.error.code]).toEqual([path, body, 400, 'invalid']);
      }
    }
    expect((await admin.call('PUT', '/bundles/no-digest', { bundle: first.text, signature: signBundle(keys, first).signature })).status).toBeOneOf([400, 404, 422]);
    expect((await admin.get(`/bundles/${'0'.repeat(64)}`)).body.error.code).toBe('not_found');
    expect((await admin.get('/bundles/no-digest')).status).toBeOneOf([400, 404]);
  });

  it('bundles: stored once, listed last first, given back byte for byte', async () => {
    const uploaded = await admin.upload(keys, second);
    expect([uploaded.status, uploaded.body]).toEqual([201, { digest: second.digest, serial: second.serial, created: expect.any(Number), bytes: Buffer.byteLength(second.text), signatures: 2, lists: 1, uploaded: expect.any(Number) }]);
    expect(Math.abs(uploaded.body.uploaded - seconds())).toBeLessThan(60);
    const again = await admin.upload(keys, second);
    expect([again.status, again.body]).toEqual([200, uploaded.body]);
    const { bundles } = await admin.got('/bundles');
    expect(bundles.map(({ digest }: { digest: string }) => digest)).toEqual([second.digest, first.digest]);
    const { digest, bundle, signature } = await reader.got(`/bundles/${second.digest}`);
    expect([digest, bundle]).toEqual([second.digest, second.text]);
    expect(signature).toContain(`hedgerow bundle ${second.digest}`);
  });

  it('releases: the newest first, each as it was signed', async () => {
    for (let serial = 2; serial <= 4; serial++) expect((await admin.publish(keys, releaseOf(serial, serial % 2 ? first : second, { note: `number ${serial}` }))).status).toBeOneOf([201, 202]);
    const { releases } = await admin.got('/releases?limit=2');
    expect(releases.map(({ serial }: { serial: number }) => serial)).toEqual([4, 3]);
    const current = await admin.got('/releases/current');
    expect(current).toEqual(releases[0]);
    expect(current).toMatchObject({ serial: 4, kind: 'release', key: keys.publicKey, release: { release: 1, serial: 4, active: second.digest, note: 'number 4', author: 'ana' } });
    expect(JSON.parse(current.text)).toEqual(current.release);
    expect((await admin.got('/releases')).releases.length).toBe(4);
    for (const query of ['limit=0', 'limit=101', 'limit=x', 'limit=-1']) expect([query, (await admin.get(`/releases?${query}`)).status]).toEqual([query, expect.toBeOneOf([200, 400])]);
    expect((await admin.get('/releases?limit=100000')).body.releases?.length ?? 0).toBeLessThanOrEqual(100);
  });

  it('promote and rollback fit what is in force, or are refused', async () => {
    const call = async (how: 'promote' | 'rollback', release: string) => {
      const { status, body } = await admin.publish(keys, release, how);
      return [status, body.error?.code ?? body.serial];
    };
    const fits = expect.toBeOneOf([201, 202]);
    // Nothing to promote; nothing to go back to.
    expect(await call('promote', releaseOf(7, first))).toEqual([409, 'precondition']);
    expect(await call('rollback', releaseOf(7, second))).toEqual([409, 'precondition']);
    const third = bundleOf({ hedge_tall: 12 });
    await admin.release(keys, 7, second, { canary: { digest: third.digest, percent: 5 }, shadow: { digest: first.digest } }, third).catch(() => {});
    expect((await admin.got('/releases/current')).serial).toBe(7);
    const canary = { digest: third.digest, percent: 50 };
    expect(await call('promote', releaseOf(8, first))).toEqual([409, 'precondition']);
    expect(await call('promote', releaseOf(8, third, { canary }))).toEqual([409, 'precondition']);
    expect(await call('promote', releaseOf(7, third))).toEqual([409, 'serial']);
    expect(await call('rollback', releaseOf(8, third))).toEqual([409, 'precondition']);
    expect(await call('rollback', releaseOf(8, first, { shadow: { digest: second.digest } }))).toEqual([409, 'precondition']);
    const conflict = await admin.publish(keys, releaseOf(8, first), 'promote');
    expect(conflict.body.error).toMatchObject({ serial: 7, message: expect.any(String), remedy: expect.any(String) });
    expect(await call('promote', releaseOf(8, third))).toEqual([fits, 8]);
    expect(await call('rollback', releaseOf(9, first))).toEqual([fits, 9]);
    expect(await call('rollback', releaseOf(10, EMBEDDED))).toEqual([fits, 10]);
    expect(await call('rollback', releaseOf(11, EMBEDDED))).toEqual([409, 'precondition']);
    await admin.publish(keys, releaseOf(11, first, { shadow: { digest: second.digest } }));
    expect(await call('promote', releaseOf(12, second))).toEqual([fits, 12]);
    const kinds = (await admin.got('/releases?limit=6')).releases.map(({ serial, kind }: { serial: number; kind: string }) => [serial, kind]);
    expect(kinds).toEqual([[12, 'promote'], [11, 'release'], [10, 'rollback'], [9, 'rollback'], [8, 'promote'], [7, 'release']]);
  });

  it('diff: what changes', async () => {
    expect(await admin.got(`/diff?from=${first.digest}&to=${second.digest}`)).toEqual({
      added: ['meadow_wide'],
      removed: ['ferry_slow'],
      weights: [{ name: 'lantern_red', from: 22, to: 25 }],
      changed: [],
      lists: [{ name: 'list_known', added: 2, removed: 0 }],
      policy: [{ path: 'bands.suspect', from: 50, to: 60 }],
    });
    const none = { added: [], removed: [], weights: [], changed: [], lists: [], policy: [] };
    expect(await admin.got(`/diff?from=${first.digest}&to=${first.digest}`)).toEqual(none);
    expect(await admin.got('/diff?from=embedded&to=embedded')).toEqual(none);
    expect((await admin.got(`/diff?from=embedded&to=${first.digest}`)).removed.length).toBeGreaterThan(40);
    for (const query of ['', '?from=embedded', `?to=${first.digest}`, `?from=x&to=${first.digest}`, `?from=${'0'.repeat(64)}&to=embedded`]) {
      const { status, body } = await admin.get(`/diff${query}`);
      expect([query, status, body.error?.remedy]).toEqual([query, expect.toBeOneOf([400, 404, 422]), expect.any(String)]);
    }
  });

  it('status: what is in force', async () => {
    const status = await reader.status();
    const { ruleset } = await fleet.edges[1]!.version();
    expect(status).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+/), keys: [keys.publicKey], release: { serial: 12, kind: 'promote' }, pull: null, ledger: { reachable: true }, traffic: { seconds: 60 } });
    expect(Math.abs(status.now - seconds())).toBeLessThan(60);
    expect([status.embedded, ruleset]).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/), expect.any(String)]);
    expect((await reader.status('?minutes=5')).traffic.seconds).toBe(300);
    for (const minutes of ['0', '43201', 'x', '-1', '1.5']) expect([minutes, (await reader.get(`/status?minutes=${minutes}`)).status]).toEqual([minutes, expect.toBeOneOf([200, 400])]);
  });

  it('audit: who, what, when, from where and what came of it; no address', async () => {
    await admin.upload(keyPair(), first);
    await admin.publish(keys, releaseOf(3, first));
    const { entries } = await admin.got('/audit?limit=500');
    expect(entries.map(({ id }: { id: number }) => id)).toEqual([...entries.map(({ id }: { id: number }) => id)].sort((a, b) => b - a));
    expect(entries[0]).toMatchObject({ who: 'publish', what: 'release', result: 'serial', subject: expect.stringContaining('3') });
    expect(entries[1]).toMatchObject({ who: 'publish', what: 'bundle.upload', result: 'signature', subject: expect.stringContaining(first.digest.slice(0, 12)) });
    const find = (member: object) => expect(entries).toContainEqual(expect.objectContaining(member));
    find({ who: 'publish', what: 'bundle.upload', result: 'ok' });
    find({ who: 'publish', what: 'release', author: 'ana', result: 'ok' });
    find({ who: 'publish', what: 'promote', result: 'ok' });
    find({ who: 'publish', what: 'rollback', result: 'ok' });
    find({ who: 'publish', what: 'promote', result: 'precondition' });
    find({ who: 'nobody', what: 'auth' });
    // A token that only reads and tries to publish, and a body that is none.
    await eventually('what was refused at the door', async () => expect((await admin.got('/audit?limit=500')).entries).toContainEqual(expect.objectContaining({ who: 'read', what: 'refused', subject: expect.stringMatching(/^(PUT|POST) \/_hedgerow\/v1\//), result: 'scope' })));
    find({ who: 'publish', result: 'invalid' });
    const from = new Set(entries.filter(({ who, what }: { who: string; what: string }) => who === 'publish' && what !== 'auth').map(({ from }: { from: string }) => from));
    expect([...from]).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/)]);
    for (const { at } of entries) expect(Math.abs(at - seconds())).toBeLessThan(300);
    const texts = [JSON.stringify(entries), fleet.logs.map(({ message }) => message).join('\n')];
    for (const text of texts) for (const secret of [ADDRESS, PUBLISH, READ]) expect(text).not.toContain(secret);
    // In pages, without a gap.
    const [page] = [(await admin.got('/audit?limit=4')).entries];
    const following = (await admin.got(`/audit?limit=4&before=${page.at(-1).id}`)).entries;
    expect([...page, ...following]).toEqual((await admin.got('/audit?limit=8')).entries);
  });

  it('none of it reached the origin', () => expect(origin.seen.filter(({ path }) => path.includes('_hedgerow'))).toEqual([]));

  it('the document was measured against: every call was answered well once, here, or in correlate.spec.ts or console.spec.ts', () => {
    const elsewhere = /\/v1\/(indicators|clusters|series|decisions|live)/;
    const missing = Object.entries(DOCUMENT.paths).flatMap(([path, item]) => Object.keys(item).filter((method) => method !== 'parameters').map((method) => `${method.toUpperCase()} ${path}`)).filter((call) => call.includes('/v1/') && !elsewhere.test(call) && ![...met].some((seen) => seen.startsWith(`${call} 20`)));
    expect(missing).toEqual([]);
  });
});
