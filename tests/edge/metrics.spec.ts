// The metrics: Prometheus itself scrapes them by `npm run observe`, and the counts equal those of
// the status.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Admin, ADMIN_TOKEN, READ_TOKEN, readMetrics } from './release-fixtures.ts';
import { enforce, eventually, Origin, ROOT, useFleet, useOrigin } from './support.ts';

const CLEAR_REQUESTS = 12;
const REFUSED_REQUESTS = 5;

const origin = useOrigin(Origin.ok);
const vars = { ADMIN_TOKEN, READ_TOKEN, LEDGER_SHARDS: '2' };
const fleet = useFleet({ origin, workers: 2, vars });
const admin = new Admin(fleet.edge, ADMIN_TOKEN);

beforeAll(async () => {
  for (let number = 0; number < CLEAR_REQUESTS; number++)
    await fleet.edges[number % 2]!.ask('When do swifts leave?');
  for (let number = 0; number < REFUSED_REQUESTS; number++)
    await fleet.edges[number % 2]!.ask('When do swifts leave?', enforce('block'));
  await eventually('the counts', async () =>
    expect((await admin.status('?minutes=60')).traffic.requests).toBe(
      CLEAR_REQUESTS + REFUSED_REQUESTS,
    ),
  );
  // Totals contain only stored counts.
  await fleet.untilStored('ledger');
});

it('the metrics need a token', async () => {
  const url = `${fleet.edge.url}/_hedgerow/v1/metrics`;
  expect((await fetch(url)).status).toBe(401);
  expect((await fetch(url, { method: 'POST' })).status).toBe(401);
});

it('the counts equal those of the status, also after a restart', async () => {
  const expected = [
    `hedgerow_requests_total{band="clear",action="allow",mode="shadow"} ${CLEAR_REQUESTS}`,
    `hedgerow_requests_total{band="clear",action="block",mode="enforce"} ${REFUSED_REQUESTS}`,
    `hedgerow_enforced_requests_total ${REFUSED_REQUESTS}`,
    'hedgerow_scoring_failures_total 0',
    'hedgerow_registry_up 1',
    'hedgerow_ledger_up 1',
    'hedgerow_stopped 0',
    'hedgerow_clusters 0',
  ];
  const expectCounts = async () =>
    expect((await readMetrics(fleet.edge, READ_TOKEN)).split('\n')).toEqual(
      expect.arrayContaining(expected),
    );
  await expectCounts();
  expect(await readMetrics(fleet.edge)).toMatch(/\n# EOF\n$/);
  await fleet.restart();
  await expectCounts();
});

const hasPrometheus = spawnSync('prometheus', ['--version']).error === undefined;
if (!hasPrometheus) console.log('skipped: Prometheus is missing (apt-get install prometheus)');

describe.skipIf(!hasPrometheus)('Prometheus', () => {
  let directory: string;
  let observe: ChildProcess;
  let api: string;
  let output = '';

  /** Runs a query, and returns the only value of its result. */
  async function query(expression: string): Promise<number> {
    const response = await fetch(`${api}/query?query=${encodeURIComponent(expression)}`);
    const { data } = (await response.json()) as { data: { result: { value: [number, string] }[] } };
    expect([expression, data.result]).toEqual([expression, [expect.anything()]]);
    return Number(data.result[0]!.value[1]);
  }

  beforeAll(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-prometheus-'));
    const token = path.join(directory, 'token');
    writeFileSync(token, READ_TOKEN);
    const port = String(await freePort());
    api = `http://127.0.0.1:${port}/api/v1`;
    const options = ['--url', fleet.edge.url, '--port', port, '--interval', '1'];
    const files = ['--token-file', token, '--directory', directory];
    const script = path.join(ROOT, 'scripts/observe.mjs');
    observe = spawn(process.execPath, [script, ...options, ...files]);
    for (const stream of [observe.stdout!, observe.stderr!])
      stream.on('data', (data) => (output += data));
  });
  afterAll(async () => {
    const ended = new Promise((done) => observe.once('exit', done));
    if (observe.exitCode === null && observe.kill('SIGTERM')) await ended;
    rmSync(directory, { recursive: true, force: true });
  });

  it('scrapes the metrics', async () => {
    await eventually('a scrape', async () => {
      expect([observe.exitCode, output]).toEqual([null, expect.stringContaining('graphs')]);
      expect(await query('up{job="hedgerow"}')).toBe(1);
      expect(await query('sum(hedgerow_requests_total)')).toBe(CLEAR_REQUESTS + REFUSED_REQUESTS);
    });
    expect(await query('hedgerow_enforced_requests_total')).toBe(REFUSED_REQUESTS);
    expect(await query('count(hedgerow_build_info)')).toBe(1);
  });

  it('evaluates the rules, and no alert fires', async () => {
    await eventually('the rules', async () => {
      const response = await fetch(`${api}/rules`);
      const { data } = (await response.json()) as {
        data: { groups: { rules: { name: string; health: string; state?: string }[] }[] };
      };
      const rules = data.groups.flatMap((group) => group.rules);
      expect(rules).toHaveLength(16);
      for (const { name, health } of rules) expect([name, health]).toEqual([name, 'ok']);
      expect(rules.filter(({ state }) => state === 'firing')).toEqual([]);
    });
    // A rate needs two scrapes.
    await eventually('a rate', async () =>
      expect(await query('hedgerow:requests:rate5m')).toBeGreaterThanOrEqual(0),
    );
  });

  it('sees the requests that follow', async () => {
    for (let number = 0; number < 3; number++) await fleet.edge.ask('When do swifts leave?');
    await eventually('the new requests', async () =>
      expect(await query('sum(hedgerow_requests_total)')).toBe(
        CLEAR_REQUESTS + REFUSED_REQUESTS + 3,
      ),
    );
  });
});

it('a crash that loses counts does not lower a total', async () => {
  const total = async () => {
    const counts = (await readMetrics(fleet.edge)).matchAll(/^hedgerow_requests_total.* (\d+)$/gm);
    return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const { requests } = (await admin.status('?minutes=60')).traffic;
  for (let number = 0; number < 4; number++) await fleet.edge.ask('When do swifts leave?');
  await eventually('the counts', async () =>
    expect((await admin.status('?minutes=60')).traffic.requests).toBeGreaterThan(requests),
  );
  const before = await total();
  expect(before).toBeGreaterThanOrEqual(CLEAR_REQUESTS + REFUSED_REQUESTS);
  await fleet.restart();
  expect(await total()).toBeGreaterThanOrEqual(before);
});

/** Returns a port that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => done(port));
    });
  });
}
