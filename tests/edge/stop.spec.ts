// A stop lowers the mode of every isolate without the signing key, and only a signed release that
// names the stop ends it.
import { beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import {
  Admin,
  ADMIN_TOKEN,
  makeBundle,
  makeManifest,
  phrase,
  putSigned,
  signRelease,
  STOP_TOKEN,
} from './release-fixtures.ts';
import {
  chat,
  type Edge,
  eventually,
  Origin,
  sleep,
  useFleet,
  useOrigin,
  withFilter,
} from './support.ts';

const keys = keyPair();
/** Refuses every request with the phrase of `lantern_red`. */
const policy = {
  mode: 'enforce',
  actions: { suspect: 'block' },
  unknown: { treat: 'refuse' },
  websocket: 'refuse',
};
const enforcing = makeBundle({ lantern_red: 22 }, { policy });
const alsoEnforcing = makeBundle({ lantern_red: 22 }, { policy });
const HARVEST = `Please: ${phrase('lantern_red')}.`;

const origin = useOrigin(Origin.ok);
const fleet = useFleet({
  origin,
  workers: 2,
  vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN, STOP_TOKEN, REFRESH_SECONDS: '10' },
});
const admin = new Admin(fleet.edge, ADMIN_TOKEN);
const onCall = new Admin(fleet.edge, STOP_TOKEN);
const stop = (reason: string, paths: string[] = []) =>
  onCall.call('POST', '/stop', { reason, paths, author: 'ana' });

/** Sends a request that the rules refuse, and returns its status. */
async function harvest(edge: Edge, path = '/v1/chat/completions', authorization = 'Bearer sk-1') {
  const response = await edge.post(path, chat(HARVEST), { authorization });
  await response.arrayBuffer();
  return response.status;
}

/** Returns whether a WebSocket can be opened. The policy refuses WebSockets. */
async function opensWebSocket() {
  const socket = new WebSocket(`${fleet.edge.url.replace('http', 'ws')}/v1/realtime?model=x`);
  const isOpen = await new Promise<boolean>((done) => {
    socket.onopen = () => done(true);
    socket.onerror = () => done(false);
  });
  socket.close();
  return isOpen;
}

/** Waits until all isolates answer a harvest with a status. Returns the seconds that this took. */
async function untilHarvest(status: number, path?: string) {
  const began = performance.now();
  for (const edge of fleet.edges)
    await eventually(
      `status ${status}`,
      async () => expect(await harvest(edge, path)).toBe(status),
      20_000,
    );
  return (performance.now() - began) / 1000;
}

beforeAll(async () => {
  await admin.release(keys, 1, enforcing);
  await untilHarvest(403);
  expect(await opensWebSocket()).toBe(false);
});

it('STOP_TOKEN reads and stops, and does nothing else', async () => {
  expect((await onCall.get('/status')).status).toBe(200);
  const rollback = await onCall.publish(keys, makeManifest(2, 'embedded'), 'rollback');
  expect([rollback.status, rollback.body.error]).toEqual([
    403,
    {
      code: 'scope',
      message: 'this token only allows reading and stops',
      remedy: 'use the token that was set as ADMIN_TOKEN',
    },
  ]);
});

it.each([
  ['no reason', { paths: [] }, 400, 'invalid'],
  ['an empty reason', { reason: ' ' }, 422, 'invalid'],
  ['a path without a slash', { reason: 'x', paths: ['v1', '/a b'] }, 422, 'invalid'],
  ['an unknown member', { reason: 'x', path: '/v1' }, 400, 'invalid'],
])('%s is rejected, and stops nothing', async (_, body, status, code) => {
  const response = await onCall.call('POST', '/stop', body);
  expect([response.status, response.body.error.code]).toEqual([status, code]);
  expect((await admin.status()).stop).toBeNull();
});

it('a stop reaches every isolate within 15 s, and is audited', async () => {
  const { status, body } = await stop('customers are refused');
  expect([status, body]).toMatchObject([
    201,
    { published: true, problem: null, stop: { paths: [], author: 'ana', ended_by: null } },
  ]);
  const seconds = await untilHarvest(200);
  console.log(`stop: ${fleet.edges.length} isolates lower the mode after ${seconds.toFixed(1)} s`);
  expect(seconds).toBeLessThan(15);
  const response = await fleet.edge.post('/v1/chat/completions', chat(HARVEST));
  expect(await fleet.edge.decision(response)).toMatchObject({
    action: 'block',
    mode: 'shadow',
    enforced: false,
  });
  const { entries } = await admin.getOk('/audit');
  expect(entries[0]).toMatchObject({
    actor: 'stop',
    action: 'stop',
    subject: 'all requests: customers are refused',
    author: 'ana',
    result: 'ok',
  });
  expect((await admin.status()).stop).toEqual({ stop: body.stop, published: true, problem: null });
});

it('a stop that changes nothing is not stored again', async () => {
  const { stop: inForce } = (await admin.status()).stop;
  const { status, body } = await stop('again', ['/v1/messages']);
  expect([status, body.stop]).toEqual([200, inForce]);
});

it('a stop also ends refusals of paths and WebSockets, and choices of a request', async () => {
  expect(await opensWebSocket()).toBe(true);
  expect((await fleet.edge.post('/unknown/path', { prompt: HARVEST })).status).toBe(200);
  const response = await fleet.edge.post('/v1/chat/completions', chat(HARVEST), {
    'x-hedgerow-mode': 'enforce',
  });
  expect(response.status).toBe(200);
});

it('a release does not end the stop, unless it names the stop', async () => {
  await admin.release(keys, 2, makeBundle({ lantern_red: 22 }, { policy: { mode: 'enforce' } }));
  const canary = { digest: alsoEnforcing.digest, percent: 50 };
  await admin.release(keys, 3, enforcing, { canary }, alsoEnforcing);
  await fleet.untilRelease(3);
  await sleep(1000);
  for (const edge of fleet.edges) expect(await harvest(edge)).toBe(200);
  // Half of these accounts are in the canary.
  for (let account = 0; account < 20; account += 1)
    expect(await harvest(fleet.edge, undefined, `Bearer sk-${account}`)).toBe(200);
  const { status, body } = await admin.publish(keys, makeManifest(4, enforcing, { resumes: 7 }));
  expect([status, body.error.code, body.error.message]).toEqual([
    409,
    'precondition',
    '`resumes` names the stop of 7, which is not in force',
  ]);
});

it('a signed release that names the stop enforces again within 15 s', async () => {
  const { stop } = (await admin.status()).stop;
  await admin.release(keys, 4, enforcing, { resumes: stop.at });
  const seconds = await untilHarvest(403);
  console.log(`resume: ${fleet.edges.length} isolates enforce after ${seconds.toFixed(1)} s`);
  expect(seconds).toBeLessThan(15);
  expect((await admin.status()).stop).toBeNull();
  const { entries } = await admin.getOk('/audit');
  expect(entries.map(({ action }: { action: string }) => action)).toContain('resume');
});

it('later releases need not name the stop, even for new isolates', async () => {
  await admin.release(keys, 5, enforcing);
  await eventually('the end of the stop in KV', async () => {
    const { value } = await (await fleet.kv()).getWithMetadata('stop');
    expect(JSON.parse(value!)).toMatchObject({ ended_by: 4 });
  });
  await fleet.restart();
  await untilHarvest(403);
});

it('the end of a stop counts only with the release that caused it, or a later one', async () => {
  const kv = await fleet.kv();
  const before = signRelease(keys, makeManifest(3, enforcing));
  const { value, metadata } = await kv.getWithMetadata('release');
  await putSigned(kv, 'release', before);
  await fleet.restart();
  await fleet.untilRelease(3);
  for (const edge of fleet.edges) expect(await harvest(edge)).toBe(200);
  await (await fleet.kv()).put('release', value!, { metadata });
  await untilHarvest(403);
});

it('a stop of a path leaves other paths enforced; a second stop adds paths', async () => {
  expect((await stop('first', ['/v1/chat/**'])).status).toBe(201);
  await untilHarvest(200);
  const other = '/openai/v1/chat/completions';
  expect(await harvest(fleet.edge, other)).toBe(403);
  const { body } = await stop('second', ['/openai/**']);
  expect(body.stop.paths).toEqual(['/v1/chat/**', '/openai/**']);
  await untilHarvest(200, other);
  expect(await harvest(fleet.edge)).toBe(200);
});

it('a stop that KV rejects is reported, and published afterwards', async () => {
  await fleet.setFaults({ write: 'throw' });
  const { status, body } = await stop('third', ['/v1/messages']);
  expect([status, body.published, body.problem]).toEqual([202, false, 'KV cannot be written']);
  expect((await admin.status()).stop).toMatchObject({ published: false });
  await fleet.setFaults({ write: null });
  await eventually(
    'the stop in KV',
    async () => expect((await admin.status()).stop).toMatchObject({ published: true }),
    20_000,
  );
});

describe('the value in KV', () => {
  it('counts only with the MAC of the registry; the cron trigger repairs it', async () => {
    const kv = await fleet.kv();
    const { value } = await kv.getWithMetadata('stop');
    const forged = JSON.stringify({ ...JSON.parse(value!), ended_by: 5 });
    await kv.put('stop', forged, { metadata: { signature: 'ab'.repeat(32) } });
    await eventually('the error', async () => {
      await fleet.edge.ask();
      const { traffic } = await admin.status('?minutes=5');
      expect(traffic.errors.map(({ message }: { message: string }) => message)).toContain(
        "stop: the value in KV was not published by this deployment's registry",
      );
    }, 25_000);
    expect(await harvest(fleet.edge)).toBe(200);
    await fleet.cron();
    await eventually('the stop in KV', async () =>
      expect((await kv.getWithMetadata('stop')).value).toBe(value),
    );
  });
});

describe('MODE_CEILING', () => {
  const refused = { 'x-hedgerow-mode': 'enforce', 'x-hedgerow-action': 'block' };
  it.each([
    [undefined, 403],
    ['enforce', 403],
    ['shadow', 200],
    ['of', 200],
  ])('%s: a refusal has the status %s', async (MODE_CEILING, status) => {
    await withFilter({ origin, vars: { MODE_CEILING } }, async (filter) => {
      const response = await filter.post('/v1/chat/completions', chat('hello'), refused);
      expect(response.status).toBe(status);
      const { warnings } = (await (await filter.health()).json()) as {
        warnings: { message: string }[];
      };
      const warns = warnings.some(({ message }) => message.startsWith('MODE_CEILING'));
      expect(warns).toBe(MODE_CEILING === 'of');
    });
  });

  it('a deployment without PUBLIC_KEYS has no stop, and says what to do', async () => {
    await withFilter({ origin, vars: { STOP_TOKEN } }, async (filter) => {
      const { status, body } = await new Admin(filter, STOP_TOKEN).call('POST', '/stop', {
        reason: 'x',
      });
      expect([status, body.error.code]).toEqual([503, 'unavailable']);
      expect(body.error.remedy).toContain('MODE_CEILING:shadow');
    });
  });
});
