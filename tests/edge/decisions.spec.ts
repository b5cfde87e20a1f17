// Enforced decisions: every one is found by its request id and listed, also after a restart. Each
// list says how many decisions were counted.
import { execFile, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_LINE } from '../../scripts/lib/build.mjs';
import { Admin, ADMIN_TOKEN } from './release-fixtures.ts';
import { chat, enforce, eventually, isBuilt, Origin, useFleet, useOrigin } from './support.ts';

const BURST = 300;

const origin = useOrigin(Origin.ok);
const vars = { ADMIN_TOKEN, REPORT_SECONDS: '2', LEDGER_SHARDS: '2' };
const fleet = useFleet({ origin, workers: 2, vars });
const admin = new Admin(fleet.edge, ADMIN_TOKEN);

/** Request ids of the burst, in the order of the requests. */
const ids: string[] = [];

/** Reads all pages of the enforced decisions. */
async function listAll(query = ''): Promise<{ request_id: string; at: number }[]> {
  const decisions: { request_id: string; at: number }[] = [];
  let before = '';
  do {
    const page = await admin.getOk(`/decisions?enforced=true&limit=70${query}${before}`);
    decisions.push(...page.decisions);
    before = page.next && `&before=${encodeURIComponent(page.next)}`;
  } while (before);
  return decisions;
}

/** Sends requests until the ledgers have all enforced decisions. */
const untilReported = () =>
  eventually('the reports', async () => {
    for (const edge of fleet.edges) await edge.ask();
    const { counted } = await admin.getOk('/decisions?enforced=true&limit=1');
    expect(counted).toBe(BURST);
  });

beforeAll(async () => {
  await fleet.setFaults({ ledgerAlarmSpeed: 10 });
  const answers = Array.from({ length: BURST }, async (_, number) => {
    const edge = fleet.edges[number % fleet.edges.length]!;
    const authorization = `Bearer sk-burst-${number % 7}`;
    const action = number % 3 === 0 ? 'throttle' : 'block';
    const { status, headers } = await edge.ask('When?', { authorization, ...enforce(action) });
    expect(status).toBe(action === 'throttle' ? 429 : 403);
    return headers.get('x-hedgerow-request-id')!;
  });
  ids.push(...(await Promise.all(answers)));
  await untilReported();
});

it('request ids are UUIDs of version 7', () => {
  const times = ids.map((id) => {
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    return parseInt(id.replaceAll('-', '').slice(0, 12), 16);
  });
  for (const time of times) expect(Math.abs(Date.now() - time)).toBeLessThan(3_600_000);
  expect(new Set(ids).size).toBe(BURST);
});

it('an error has the request id in its body', async () => {
  const bodies: [path: string, body: unknown, idOf: (json: any) => unknown][] = [
    ['/v1/chat/completions', chat('When?'), ({ error }) => error.request_id],
    ['/v1/messages', chat('When?'), (json) => json.request_id],
    [
      '/v1beta/models/gemini-2.5-pro:generateContent',
      { contents: [{ parts: [{ text: 'When?' }] }] },
      ({ error }) => error.details.at(-1).requestId,
    ],
  ];
  for (const [path, body, idOf] of bodies) {
    const response = await fleet.edge.post(path, body, enforce('block'));
    const id = response.headers.get('x-hedgerow-request-id');
    expect([path, response.status, idOf(await response.json())]).toEqual([path, 403, id]);
    // The next tests expect only the decisions of the burst and these.
    ids.push(id!);
  }
  await eventually('the reports', async () => {
    for (const edge of fleet.edges) await edge.ask();
    const { counted } = await admin.getOk('/decisions?enforced=true&limit=1');
    expect(counted).toBe(ids.length);
  });
});

it.each([
  ['model=demo-large', 3],
  ['model=*EMO-L*', 3],
  ['model=demo', 0],
  ['model=*demo', 0],
])('a filter matches a whole name or a pattern: %s', async (filter, expected) => {
  const { decisions } = await admin.getOk(`/decisions?enforced=true&limit=3&${filter}`);
  expect(decisions).toHaveLength(expected);
});

it('a degraded request is enforced if its body was edited', async () => {
  const ask = async (members: object) => {
    const body = { ...chat('When?'), ...members };
    const response = await fleet.edge.post('/v1/chat/completions', body, enforce('degrade'));
    await response.arrayBuffer();
    return response.headers.get('x-hedgerow-request-id')!;
  };
  const edited = await ask({ logprobs: true });
  const unchanged = await ask({});
  ids.push(edited);
  await eventually('the decisions', async () => {
    for (const edge of fleet.edges) await edge.ask();
    const { decisions } = await admin.getOk(`/decisions?id=${edited}`);
    expect(decisions).toMatchObject([{ enforced: true, degraded: 'edited', action: 'degrade' }]);
  });
  const listed = (await listAll()).map(({ request_id }) => request_id);
  expect([listed.includes(edited), listed.includes(unchanged)]).toEqual([true, false]);
});

/** Checks that each decision is found by its id, and that the list is complete and in order. */
async function expectAll() {
  for (const id of ids) {
    const { decisions } = await admin.getOk(`/decisions?id=${id}&limit=1`);
    expect(decisions).toMatchObject([{ request_id: id, enforced: true, mode: 'enforce' }]);
  }
  const listed = await listAll();
  expect(listed.map(({ request_id }) => request_id).toSorted()).toEqual(ids.toSorted());
  const times = listed.map(({ at }) => at);
  expect(times).toEqual(times.toSorted((a, b) => b - a));
  const throttled = await listAll('&action=throttle');
  expect(throttled).toHaveLength(BURST / 3);
  const { kept, counted } = await admin.getOk('/decisions?enforced=true&limit=1');
  expect([kept, counted]).toEqual([ids.length, ids.length]);
}

it('every enforced decision of a burst is found, and the sample says what it lacks', async () => {
  await expectAll();
  const sample = await admin.getOk('/decisions');
  expect(sample.next).toBeUndefined();
  expect(sample.kept).toBeLessThan(sample.counted);
  expect(sample.counted).toBeGreaterThanOrEqual(ids.length);
  for (const query of ['enforced=yes', 'enforced=true&before=5'])
    expect((await admin.get(`/decisions?${query}`)).status).toBe(400);
});

it('every enforced decision is found after a restart', async () => {
  await fleet.untilStored('ledger');
  await fleet.restart();
  await expectAll();
});

describe.skipIf(!isBuilt(COMMAND_LINE, 'cargo build --release'))('the command line', () => {
  const environment = () => ({
    ...process.env,
    HEDGEROW_URL: fleet.edge.url,
    HEDGEROW_TOKEN: ADMIN_TOKEN,
  });
  const hedgerow = async (...args: string[]) => {
    const env = environment();
    return (await promisify(execFile)(COMMAND_LINE, args, { cwd: tmpdir(), env })).stdout;
  };

  it('finds each decision by a pasted header line', async () => {
    for (const id of ids.slice(0, 20)) {
      const json = await hedgerow('--format', 'json', 'decision', `"x-request-id: ${id}"`);
      expect(JSON.parse(json)).toMatchObject({ request_id: id, enforced: true });
    }
    const text = await hedgerow('decision', 'x-hedgerow-request-id:', ids[0]!);
    expect(text).toContain(`decision about ${ids[0]}`);
    expect(text).toMatch(/effect +refused/);
    const unknown = hedgerow('decision', '01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a');
    await expect(unknown).rejects.toMatchObject({ code: 1 });
  });

  it('lists all enforced decisions, and says how many were counted', async () => {
    const json = await hedgerow('--format', 'json', 'decisions', '--enforced', '--limit', '500');
    const listed = JSON.parse(json).decisions.map((decision: any) => decision.request_id);
    expect(listed.toSorted()).toEqual(ids.toSorted());
    const text = await hedgerow('decisions', '--enforced', '--action', 'block', '--limit', '5');
    const all = `${ids.length} kept of ${ids.length} counted`;
    expect(text).toContain(`5 shown; enforced decisions: ${all}`);
    expect(await hedgerow('decisions', '--minutes', '60')).toMatch(/\d+ kept of \d+ counted/);
  });

  it('follows the enforced decisions', async () => {
    const args = ['--format', 'json', 'tail', '--enforced', '--lines', '1', '--count', '3'];
    const follow = spawn(COMMAND_LINE, [...args, '--interval', '1'], {
      cwd: tmpdir(),
      env: environment(),
    });
    const lines: string[] = [];
    createInterface({ input: follow.stdout }).on('line', (line) => lines.push(line));
    await eventually('the last decision', async () => expect(lines).toHaveLength(1));
    const answers = [0, 1].map(() => fleet.edge.ask('When?', enforce('block')));
    const asked = (await Promise.all(answers)).map(({ headers }) =>
      headers.get('x-hedgerow-request-id'),
    );
    await eventually('the new decisions', async () => expect(lines).toHaveLength(3));
    const followed = lines.map((line) => JSON.parse(line).request_id);
    expect(ids).toContain(followed[0]);
    expect(followed.slice(1).toSorted()).toEqual(asked.toSorted());
  });
});
