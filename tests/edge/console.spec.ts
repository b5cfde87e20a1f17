// The console's files, and the API behind its views: time series, decisions and live notifications.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { coveredCalls } from './openapi.ts';
import { Admin, ADMIN_TOKEN, makeBundle, phrase, READ_TOKEN } from './release-fixtures.ts';
import {
  type Edge,
  eventually,
  Fleet,
  isBuilt,
  Origin,
  type OriginHandler,
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

describe.skipIf(!hasConsole)('service workers of the origin', () => {
  const script: OriginHandler = (request, res) =>
    res
      .writeHead(200, {
        'content-type': 'text/javascript',
        ...(request.headers['x-test-allowed'] && {
          'service-worker-allowed': request.headers['x-test-allowed'],
        }),
      })
      .end('// a script');
  const register = (filter: Edge, target: string, allowed?: string) =>
    fetch(filter.url + target, {
      headers: { 'service-worker': 'script', ...(allowed && { 'x-test-allowed': allowed }) },
    });

  it('cannot control the console', () =>
    withFilter({ origin, console: true }, async (filter) => {
      origin.handler = script;
      for (const target of ['/sw.js', '/', '/x/../sw.js', '/_hedgerow/sw.js'])
        expect([target, (await register(filter, target)).status]).toEqual([
          target,
          target.startsWith('/_') ? 404 : 403,
        ]);
      const assets = readdirSync(path.join(FILES, 'assets'));
      const asset = `/_hedgerow/assets/${assets.find((name) => name.endsWith('.js'))}`;
      expect((await register(filter, asset)).status).toBe(404);
      expect(origin.requests).toEqual([]);
      const rows: [allowed: string, passes: boolean][] = [
        ['/', false],
        ['/_hedgerow/', false],
        ['/_hed', false],
        ['../', false],
        ['/app/, /', false],
        ['//[', false],
        ['/app/', true],
        ['./deeper/', true],
      ];
      for (const [allowed, passes] of rows) {
        const response = await register(filter, '/app/sw.js', allowed);
        expect([allowed, response.status, response.headers.get('service-worker-allowed')]).toEqual([
          allowed,
          200,
          passes ? allowed : null,
        ]);
        expect(await response.text()).toBe('// a script');
      }
      // `Vary` prevents a cache from answering a service worker request with the response to an
      // ordinary request.
      const vary = async (target: string) => (await fetch(filter.url + target)).headers.get('vary');
      expect([await vary('/sw.js'), await vary('/app/sw.js')]).toEqual(['Service-Worker', null]);
    }));

  it('are the origin’s own business if the console has another host, or no files', async () => {
    for (const options of [{ console: false }, { vars: { CONSOLE_HOST: 'console.example.com' } }])
      await withFilter({ origin, console: true, ...options }, async (filter) => {
        origin.handler = script;
        const response = await register(filter, '/sw.js', '/');
        const allowed = response.headers.get('service-worker-allowed');
        expect([response.status, allowed]).toEqual([200, '/']);
        expect((await fetch(`${filter.url}/sw.js`)).headers.get('vary')).toBeNull();
      });
  });
});

describe.skipIf(!hasConsole)('CONSOLE_HOST', () => {
  // The tests reach the Worker under two names: 127.0.0.1 and localhost.
  const onOwnHost = (filter: Edge) => `http://localhost:${filter.port}`;
  const vars = { CONSOLE_HOST: 'localhost', READ_TOKEN };
  const status = async (url: string, init?: RequestInit) => (await fetch(url, init)).status;
  const host = async (url: string) =>
    (await (await fetch(`${url}/_hedgerow/version`)).json()).console_host;

  it('has the console and nothing else; other hosts have everything else', () =>
    withFilter({ origin, console: true, vars }, async (filter) => {
      const asset = `/_hedgerow/assets/${readdirSync(path.join(FILES, 'assets'))[0]}`;
      const rules = `/_hedgerow/rules/${readdirSync(path.join(FILES, 'rules'))[0]}`;
      const headers = { authorization: `Bearer ${READ_TOKEN}` };
      const api = '/_hedgerow/v1';
      const rows: [target: string, own: number, other: number][] = [
        ['/_hedgerow/', 200, 404],
        [asset, 200, 404],
        [rules, 200, 404],
        [`${api}/live/ticket`, 200, 404],
        [`${api}/live`, 426, 404],
        [`${api}/status`, 200, 200],
        ['/_hedgerow/health', 200, 200],
        ['/_hedgerow/version', 200, 200],
        ['/', 404, 200],
        ['/sw.js', 404, 200],
        ['/v1/models', 404, 200],
      ];
      for (const [target, own, other] of rows)
        expect([
          target,
          await status(onOwnHost(filter) + target, { headers }),
          await status(filter.url + target, { headers }),
        ]).toEqual([target, own, other]);
      expect([await host(onOwnHost(filter)), await host(filter.url)]).toEqual(['own', 'other']);
      expect(origin.requests.map(({ path }) => path)).toEqual(['/', '/sw.js', '/v1/models']);
      const body = { method: 'POST', body: '{"messages":[]}' };
      expect(await status(`${onOwnHost(filter)}/v1/chat/completions`, body)).toBe(404);
    }));

  it('that is malformed closes the console, and health names the problem', () =>
    withFilter({ origin, console: true, vars: { CONSOLE_HOST: 'https://x/' } }, async (filter) => {
      expect(await status(`${filter.url}/_hedgerow/`)).toBe(404);
      const { warnings } = await (await filter.health()).json();
      expect(JSON.stringify(warnings)).toContain('CONSOLE_HOST is not a host');
    }));

  it('is shared with the origin if it is not set, and local in development', async () => {
    await withFilter({ origin, console: true }, async (filter) =>
      expect(await host(filter.url)).toBe('local'),
    );
    await withFilter({ origin, vars: { ENVIRONMENT: undefined } }, async (filter) =>
      expect(await host(filter.url)).toBe('shared'),
    );
  });
});

it.skipIf(!hasConsole)('wrong tokens for the rules are slowed, counted and audited', async () => {
  const fleet = await Fleet.start({
    origin,
    workers: 1,
    console: true,
    vars: { READ_TOKEN, ENVIRONMENT: undefined },
  });
  try {
    const [name] = readdirSync(path.join(FILES, 'rules'));
    const ask = async (token?: string) => {
      const began = performance.now();
      const response = await fetch(`${fleet.edge.url}/_hedgerow/rules/${name}`, {
        headers: token ? { authorization: `Bearer ${token}` } : {},
      });
      return { status: response.status, ms: performance.now() - began };
    };
    expect((await ask()).status).toBe(401);
    expect((await new Admin(fleet.edge, READ_TOKEN).getOk('/audit')).entries).toEqual([]);
    const wrong = await ask('wrong-token-of-the-tests');
    expect(wrong.status).toBe(401);
    // A lower bound, because later failures are delayed for longer.
    expect(wrong.ms).toBeGreaterThan(590);
    await eventually('the audit entry', async () => {
      const { entries } = await new Admin(fleet.edge, READ_TOKEN).getOk('/audit');
      expect(entries).toEqual([expect.objectContaining({ result: 'unauthorized' })]);
    });
    // Sends many requests, because failures are counted per minute and a minute may end during the
    // test.
    const tries = await Promise.all(Array.from({ length: 45 }, () => ask('wrong-token-of-tests')));
    expect(tries.map(({ status }) => status)).toContain(429);
    expect((await ask(READ_TOKEN)).status).toBe(200);
  } finally {
    await fleet.dispose();
  }
});

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
    // An isolate reports its last counts only after a later request.
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
    // The same minutes, as a period with an end; and the minutes before and after them.
    const end = 1000 * (series.at.at(-1) + series.step);
    const counted = async (minutes: number, until: number) => {
      const query = `minutes=${minutes}&until=${until}`;
      const { bands, at, step } = await admin.getOk(`/series?${query}`);
      const { traffic } = await admin.getOk(`/status?${query}`);
      expect(1000 * (at[0] + at.length * step)).toBe(until);
      return [sum(bands.suspect), traffic.by_band.suspect ?? 0];
    };
    expect(await counted(15, end)).toEqual([4, 4]);
    expect(await counted(60, end - 15 * 60_000)).toEqual([0, 0]);
    const dayBefore = await admin.getOk(`/series?minutes=60&until=${end - 7 * 86_400_000}`);
    expect([dayBefore.step, sum(dayBefore.bands.suspect)]).toEqual([3600, 0]);
    for (const query of ['minutes=0', 'until=0', 'until=soon', 'until=-1', 'until=1e30'])
      for (const call of ['series', 'status'])
        expect([query, (await admin.get(`/${call}?${query}`)).status]).toEqual([query, 400]);
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
      // Each request makes the isolate send a report, if a report is due.
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
    // A ticket is valid only for the live notifications.
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
    // The restart has reset the clock. By this clock the decision is recent, so it would be listed
    // if it were still stored.
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
