// The console's files, and the API behind its views: time series, decisions and live notifications.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { coveredCalls } from './openapi.ts';
import { Admin, ADMIN_TOKEN, makeBundle, phrase, READ_TOKEN } from './release-fixtures.ts';
import {
  eventually,
  Fleet,
  isBuilt,
  Origin,
  ROOT,
  send,
  useFilter,
  useFleet,
  useOrigin,
  withFilter,
} from './support.ts';

const keys = keyPair();
const FILES = path.join(ROOT, 'build/console/_hedgerow');
const hasConsole = isBuilt('build/console/_hedgerow', 'node scripts/build.mjs console');

const origin = useOrigin(Origin.ok);

describe.skipIf(!hasConsole)('files', () => {
  const filter = useFilter({ origin, console: true });

  it('the page loads nothing from other origins, and cannot be framed', async () => {
    const page = await fetch(`${filter.url}/_hedgerow/`);
    expect([page.status, page.headers.get('content-type')]).toEqual([
      200,
      expect.stringContaining('text/html'),
    ]);
    const policy = page.headers.get('content-security-policy')!;
    expect(policy).toMatch(
      /^default-src 'none'; script-src 'self' 'wasm-unsafe-eval';.*frame-ancestors 'none'$/,
    );
    expect(policy).not.toMatch(/unsafe-inline|'unsafe-eval'|\*|https?:/);
    expect(
      Object.fromEntries(
        ['x-frame-options', 'referrer-policy', 'x-content-type-options', 'cache-control'].map(
          (name) => [name, page.headers.get(name)],
        ),
      ),
    ).toEqual({
      'x-frame-options': 'DENY',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-cache',
    });
    expect(await page.text()).toBe(readFileSync(path.join(FILES, 'index.html'), 'utf8'));
    const moved = await fetch(`${filter.url}/_hedgerow`, { redirect: 'manual' });
    expect([moved.status, moved.headers.get('location')]).toEqual([308, '/_hedgerow/']);
  });

  it('every asset is served as it was built, and cached without expiry', async () => {
    for (const name of readdirSync(path.join(FILES, 'assets'))) {
      const file = await fetch(`${filter.url}/_hedgerow/assets/${name}`);
      expect([name, file.status, file.headers.get('cache-control')]).toEqual([
        name,
        200,
        'public, max-age=31536000, immutable',
      ]);
      expect(file.headers.get('content-security-policy')).toMatch(/^default-src 'none'/);
      expect(
        Buffer.from(await file.arrayBuffer()).equals(
          readFileSync(path.join(FILES, 'assets', name)),
        ),
      ).toBe(true);
      if (name.endsWith('.wasm')) expect(file.headers.get('content-type')).toBe('application/wasm');
    }
  });

  it('other paths below /_hedgerow/ are 404, and the rest are the origin’s', async () => {
    for (const target of [
      '/_hedgerow/assets/none.js',
      '/_hedgerow/index.html',
      '/_hedgerow/assets/',
      '/_hedgerow/.stamp',
      '/_hedgerow/assets/%2e%2e/index.html',
      '/_hedgerow/assets/../index.html',
      '/_hedgerow/assets/..%2findex.html',
      '/_hedgerow/assets//../../.stamp',
      '/_hedgerow/rules/../index.html',
    ]) {
      expect([target, (await send(filter.url, { method: 'GET', path: target })).status]).toEqual([
        target,
        404,
      ]);
    }
    expect((await filter.post('/_hedgerow/', {})).status).toBe(404);
    expect(origin.requests).toEqual([]);
    for (const target of ['/', '/index.html', '/assets/index.js', '/.stamp']) {
      expect([
        target,
        (await fetch(filter.url + target)).headers.get('content-security-policy'),
      ]).toEqual([target, null]);
    }
    expect(origin.requests).toHaveLength(4);
  });
});

it.skipIf(!hasConsole)(
  'the deployed rules need development mode, a token, or CONSOLE_RULES=open',
  async () => {
    const rules = readdirSync(path.join(FILES, 'rules'));
    expect(rules.map((name) => name.replace(/-.*/, '')).sort()).toEqual(['bundle', 'sources']);
    const responses = (
      vars: Record<string, string | undefined>,
      headers: Record<string, string> = {},
    ) =>
      withFilter({ origin, console: true, vars: { READ_TOKEN, ...vars } }, async (filter) => {
        const responses = await Promise.all(
          rules.map((name) => fetch(`${filter.url}/_hedgerow/rules/${name}`, { headers })),
        );
        return responses.map(({ status, headers }) => [status, headers.get('cache-control')]);
      });
    const served = rules.map(() => [200, 'private, max-age=31536000, immutable']);
    const rejected = rules.map(() => [401, 'no-store']);
    expect(await responses({})).toEqual(served);
    expect(await responses({ ENVIRONMENT: undefined })).toEqual(rejected);
    expect(
      await responses(
        { ENVIRONMENT: undefined },
        { authorization: 'Bearer wrong-token-of-the-tests' },
      ),
    ).toEqual(rejected);
    expect(
      await responses({ ENVIRONMENT: undefined }, { authorization: `Bearer ${READ_TOKEN}` }),
    ).toEqual(served);
    expect(
      await responses(
        { ENVIRONMENT: undefined, READ_TOKEN: undefined },
        { authorization: 'Bearer ' },
      ),
    ).toEqual(rejected);
    expect(await responses({ ENVIRONMENT: undefined, CONSOLE_RULES: 'open' })).toEqual(served);
  },
);

it('without the binding ASSETS the console answers 503 with a remedy', () =>
  withFilter({ origin }, async (filter) => {
    const page = await fetch(`${filter.url}/_hedgerow/`);
    expect([page.status, await page.json()]).toEqual([
      503,
      {
        error: {
          code: 'unavailable',
          message: expect.stringContaining('ASSETS'),
          remedy: expect.stringContaining('wrangler.toml'),
        },
      },
    ]);
  }));

describe('decisions and series', () => {
  const fleet = useFleet({
    origin,
    workers: 2,
    vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN, READ_TOKEN },
  });
  const admin = new Admin(fleet.edge, READ_TOKEN);
  const ids: string[] = [];
  beforeAll(async () => {
    await fleet.setFaults({ ledgerAlarmSpeed: 10 });
    await new Admin(fleet.edge, ADMIN_TOKEN).release(
      keys,
      1,
      makeBundle({ lantern_red: 22, meadow_wide: 14, meadow_deep: 14 }),
    );
    await fleet.untilRelease(1);
    for (const edge of fleet.edges) {
      for (const content of [
        phrase('lantern_red'),
        `${phrase('meadow_wide')} ${phrase('meadow_deep')}`,
        'When do blackbirds nest?',
      ]) {
        ids.push((await edge.ask(content)).headers.get('x-hedgerow-request-id')!);
      }
    }
    // An isolate's last counts are reported after a later request.
    await eventually('the reports of both isolates', async () => {
      for (const edge of fleet.edges) await edge.ask();
      for (const id of ids)
        expect((await admin.getOk(`/decisions?id=${id}`)).decisions).toHaveLength(1);
    });
  });

  const decisions = (query: string, count: number) =>
    eventually(`decisions for ${query}`, async () => {
      const response = await admin.getOk(`/decisions${query}`);
      expect(response.decisions.length).toBe(count);
      return response.decisions;
    });

  it('a decision is found by its request id, with all parts of its score', async () => {
    const [decision] = await decisions(`?id=${ids[1]}`, 1);
    expect(decision).toMatchObject({
      request_id: ids[1],
      colo: 'local',
      model: 'demo-large',
      dialect: 'openai',
      operation: 'chat',
      band: 'suspect',
      action: expect.any(String),
      mode: 'shadow',
      serial: 1,
      role: 'active',
      error: null,
      account: expect.stringMatching(/^[0-9a-f]{32}$/),
      prior: -20,
      evidence: 25,
      contributions: [{ family: 'meadow', raw: 28, capped: 25 }],
      hits: [
        { name: 'meadow_deep', family: 'meadow', weight: 14 },
        { name: 'meadow_wide', family: 'meadow', weight: 14 },
      ].map((hit) => ({
        ...hit,
        evidence: [
          { field: 'hedgerow.prompt.user', start: expect.any(Number), end: expect.any(Number) },
        ],
      })),
    });
    expect(Math.abs(decision.at - Date.now())).toBeLessThan(60_000);
    expect(JSON.stringify(decision)).not.toMatch(/quiet hedgerow|sk-test/);
  });

  it('decisions are filtered by band, signature, account, model and colo', async () => {
    await decisions('?signature=lantern_red', 2);
    await decisions('?band=suspect', 4);
    await decisions('?band=suspect&signature=meadow_wide', 2);
    await decisions('?model=none', 0);
    await decisions('?colo=local&band=suspect', 4);
    const [{ account }] = await decisions(`?id=${ids[0]}`, 1);
    expect(
      (await admin.getOk(`/decisions?account=${account.slice(0, 10)}`)).decisions.length,
    ).toBeGreaterThanOrEqual(4);
    const page = await admin.getOk('/decisions?limit=4');
    const times = page.decisions.map(({ at }: { at: number }) => at);
    expect(times).toEqual(times.toSorted((a: number, b: number) => b - a));
    expect([page.decisions.length, page.capacity]).toEqual([4, 2000]);
    for (const limit of ['0', '501', 'all', '-1'])
      expect((await admin.get(`/decisions?limit=${limit}`)).status).toBe(400);
  });

  it('series count by band, action, score, signature and ruleset', async () => {
    const sum = (points: number[]) => points.reduce((sum, point) => sum + point, 0);
    const series = await eventually('the counts', async () => {
      const series = await admin.getOk('/series?minutes=15');
      expect(
        series.signatures.find(({ name }: { name: string }) => name === 'lantern_red')?.hits,
      ).toBe(2);
      expect(sum(series.bands.suspect)).toBe(4);
      return series;
    });
    expect([series.step, series.at.length]).toEqual([60, 15]);
    const requests = sum(Object.values(series.bands).map((points) => sum(points as number[])));
    expect(sum(series.scores)).toBe(requests);
    expect(sum(series.rulesets.map((ruleset: { requests: number }) => ruleset.requests))).toBe(
      requests,
    );
    expect(series.rulesets).toContainEqual(
      expect.objectContaining({
        serial: 1,
        role: 'active',
        bands: expect.objectContaining({ suspect: 4 }),
      }),
    );
    for (const minutes of [60, 360, 1440, 10_080, 43_200]) {
      await eventually(`the counts of ${minutes} minutes`, async () => {
        const longer = await admin.getOk(`/series?minutes=${minutes}`);
        expect([minutes, sum(longer.bands.suspect)]).toEqual([minutes, 4]);
      });
    }
    expect((await admin.get('/series?minutes=0')).status).toBe(400);
  });

  it('a WebSocket with a ticket gets a message after a report', async () => {
    const socket = (ticket: string) =>
      new WebSocket(`${fleet.edge.url.replace('http', 'ws')}/_hedgerow/v1/live`, [
        'hedgerow.v1',
        `ticket.${ticket}`,
      ]);
    const { ticket, expires } = await admin.getOk('/live/ticket');
    expect(expires - Date.now() / 1000).toBeLessThanOrEqual(31);
    expect(ticket).not.toContain(READ_TOKEN);
    const watcher = socket(ticket);
    let messages = 0;
    watcher.onmessage = () => messages++;
    await new Promise((done, fail) => ((watcher.onopen = done), (watcher.onerror = fail)));
    expect(watcher.protocol).toBe('hedgerow.v1');
    await eventually('a message', async () => {
      // Each request makes the isolate report, if a report is due.
      await fleet.edge.ask();
      expect(messages).toBeGreaterThan(0);
    });
    watcher.close();
    const [, mac] = ticket.split('.');
    const opens = (wrongTicket: string) => {
      const rejected = socket(wrongTicket);
      let opened = false;
      rejected.onopen = () => (opened = true);
      return new Promise((done) => (rejected.onclose = () => done(opened)));
    };
    const wrongTickets = [READ_TOKEN, `${expires + 3600}.${mac}`, `${expires}.${'0'.repeat(32)}`];
    expect(await Promise.all(wrongTickets.map(opens))).toEqual([false, false, false]);
    // A ticket is valid for nothing else.
    const response = await fetch(`${fleet.edge.url}/_hedgerow/v1/status`, {
      headers: { 'sec-websocket-protocol': `hedgerow.v1, ticket.${ticket}` },
    });
    expect(response.status).toBe(401);
    expect((await admin.get('/live')).status).toBe(426);
  });

  it('every call of the console has succeeded once', () => {
    for (const call of ['series', 'decisions', 'live/ticket'])
      expect([...coveredCalls]).toContain(`GET /_hedgerow/v1/${call} 200`);
  });

  it('decisions survive a restart', async () => {
    await decisions('?band=suspect', 4);
    await fleet.untilStored('ledger');
    await fleet.restart();
    expect((await decisions(`?id=${ids[0]}`, 1))[0].band).toBe('suspect');
  });
});

it('decisions are deleted after a week', async () => {
  const fleet = await Fleet.start({ origin, workers: 1, faults: true, vars: { READ_TOKEN } });
  try {
    const admin = new Admin(fleet.edge, READ_TOKEN);
    await fleet.setFaults({ ledgerAlarmSpeed: 10 });
    const id = (await fleet.edge.ask()).headers.get('x-hedgerow-request-id')!;
    const count = async () => (await admin.getOk(`/decisions?id=${id}`)).decisions.length;
    await eventually('the decision', async () => expect(await count()).toBe(1));
    await fleet.untilStored('ledger');
    await fleet.setFaults({ clock: 8 * 86_400_000 });
    expect(await count()).toBe(0);
    // The next report sets the alarm that deletes old decisions.
    await fleet.edge.ask();
    await eventually('the report', async () =>
      expect((await admin.status()).traffic.requests).toBe(1),
    );
    await fleet.untilStored('ledger');
    await fleet.restart();
    // The clock is right again: the decision is young, and would be listed if it were stored.
    expect(await count()).toBe(0);
  } finally {
    await fleet.dispose();
  }
});

it.skipIf(!isBuilt('build-faults/index.js', 'node scripts/build.mjs faults'))(
  'a request that could not be scored is listed with the reason',
  () =>
    withFilter(
      { origin, build: 'build-faults', vars: { READ_TOKEN, REPORT_SECONDS: '1' } },
      async (filter) => {
        const admin = new Admin(filter, READ_TOKEN);
        const response = await filter.post(
          '/v1/chat/completions',
          { messages: [{ role: 'user', content: 'When do blackbirds nest?' }] },
          { 'x-hedgerow-inject-panic': '1' },
        );
        const id = response.headers.get('x-hedgerow-request-id');
        const [decision] = await eventually('the decision', async () => {
          await filter.ask();
          const { decisions } = await admin.getOk('/decisions?band=unscored');
          expect(decisions).toHaveLength(1);
          return decisions;
        });
        expect(decision).toMatchObject({
          request_id: id,
          score: null,
          band: null,
          error: 'scoring panicked',
          dialect: 'openai',
          hits: [],
          contributions: [],
        });
      },
    ),
);

it('a failing ledger makes its API calls answer 503, and affects no other request', async () => {
  const fleet = await Fleet.start({ origin, workers: 1, faults: true, vars: { READ_TOKEN } });
  try {
    const admin = new Admin(fleet.edge, READ_TOKEN);
    await fleet.setFaults({ ledger: 'throw' });
    for (const path of ['/series', '/decisions']) {
      const { status, body } = await admin.get(path);
      expect([status, body.error.remedy]).toEqual([503, expect.stringMatching(/\w/)]);
    }
    expect((await fleet.edge.ask()).status).toBe(200);
    await fleet.setFaults({ ledger: null });
    await eventually('the ledger', async () =>
      expect((await admin.get('/decisions')).status).toBe(200),
    );
  } finally {
    await fleet.dispose();
  }
});
