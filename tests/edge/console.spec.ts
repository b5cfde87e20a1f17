// What the console is made of: its files, the counts over time, single decisions, and who is told when there is something new.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { Admin, bundleOf, phrase } from './release.ts';
import { met } from './openapi.ts';
import { eventually, Filter, Fleet, Origin, ROOT, send, sleep } from './support.ts';

const keys = keyPair();
const TOKEN = 'publish-token-of-the-tests';
const READ = 'read-token-of-the-tests';
const FILES = path.join(ROOT, 'build/console/_hedgerow');
const built = existsSync(FILES);
if (!built) console.log('skipped: build/console/ does not exist (`node scripts/build.mjs console`)');

let origin: Origin;
beforeAll(async () => {
  origin = await Origin.start();
  origin.answer = Origin.ok;
});
afterAll(() => origin?.close());

describe.skipIf(!built)('the files', () => {
  let filter: Filter;
  beforeAll(async () => {
    filter = await Filter.start({ origin, console: true });
  });
  afterAll(() => filter?.dispose());

  it('the page may load nothing from elsewhere, and stands in nobody’s frame', async () => {
    const page = await fetch(`${filter.url}/_hedgerow/`);
    expect([page.status, page.headers.get('content-type')]).toEqual([200, expect.stringContaining('text/html')]);
    const policy = page.headers.get('content-security-policy')!;
    expect(policy).toMatch(/^default-src 'none'; script-src 'self' 'wasm-unsafe-eval';.*frame-ancestors 'none'$/);
    expect(policy).not.toMatch(/unsafe-inline|'unsafe-eval'|\*|https?:/);
    expect(Object.fromEntries(['x-frame-options', 'referrer-policy', 'x-content-type-options', 'cache-control'].map((name) => [name, page.headers.get(name)]))).toEqual({ 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff', 'cache-control': 'no-cache' });
    expect(await page.text()).toBe(readFileSync(path.join(FILES, 'index.html'), 'utf8'));
    const moved = await fetch(`${filter.url}/_hedgerow`, { redirect: 'manual' });
    expect([moved.status, moved.headers.get('location')]).toEqual([308, '/_hedgerow/']);
  });

  it('every file is there as it was built, for ever', async () => {
    for (const name of readdirSync(path.join(FILES, 'assets'))) {
      const file = await fetch(`${filter.url}/_hedgerow/assets/${name}`);
      expect([name, file.status, file.headers.get('cache-control')]).toEqual([name, 200, 'public, max-age=31536000, immutable']);
      expect(file.headers.get('content-security-policy')).toMatch(/^default-src 'none'/);
      expect(Buffer.from(await file.arrayBuffer()).equals(readFileSync(path.join(FILES, 'assets', name)))).toBe(true);
      if (name.endsWith('.wasm')) expect(file.headers.get('content-type')).toBe('application/wasm');
    }
  });

  it('nothing else is a file: neither of ours nor on the origin’s paths', async () => {
    const seen = origin.seen.length;
    for (const place of ['/_hedgerow/assets/none.js', '/_hedgerow/index.html', '/_hedgerow/assets/', '/_hedgerow/.stamp', '/_hedgerow/assets/%2e%2e/index.html', '/_hedgerow/assets/../index.html', '/_hedgerow/assets/..%2findex.html', '/_hedgerow/assets//../../.stamp', '/_hedgerow/rules/../index.html']) {
      expect([place, (await send(filter.url, { method: 'GET', path: place })).status]).toEqual([place, 404]);
    }
    expect((await filter.post('/_hedgerow/', {})).status).toBe(404);
    expect(origin.seen.length).toBe(seen);
    for (const place of ['/', '/index.html', '/assets/index.js', '/.stamp']) {
      expect([place, (await fetch(filter.url + place)).headers.get('content-security-policy')]).toEqual([place, null]);
    }
    expect(origin.seen.length).toBe(seen + 4);
  });
});

it.skipIf(!built)('the deployment’s rules are given in development, to those who have a token, and to all where the operator says so', async () => {
  const rules = readdirSync(path.join(FILES, 'rules'));
  expect(rules.map((name) => name.replace(/-.*/, '')).sort()).toEqual(['bundle', 'sources']);
  const given = async (vars: Record<string, string | undefined>, headers: Record<string, string> = {}) => {
    const filter = await Filter.start({ origin, console: true, vars: { READ_TOKEN: READ, ...vars } });
    const answers = await Promise.all(rules.map((name) => fetch(`${filter.url}/_hedgerow/rules/${name}`, { headers })));
    const told = answers.map(({ status, headers }) => [status, headers.get('cache-control')]);
    await filter.dispose();
    return told;
  };
  const yes = rules.map(() => [200, 'private, max-age=31536000, immutable']);
  const no = rules.map(() => [401, 'no-store']);
  expect(await given({})).toEqual(yes);
  expect(await given({ ENVIRONMENT: undefined })).toEqual(no);
  expect(await given({ ENVIRONMENT: undefined }, { authorization: 'Bearer wrong-token-of-the-tests' })).toEqual(no);
  expect(await given({ ENVIRONMENT: undefined }, { authorization: `Bearer ${READ}` })).toEqual(yes);
  expect(await given({ ENVIRONMENT: undefined, READ_TOKEN: undefined }, { authorization: 'Bearer ' })).toEqual(no);
  expect(await given({ ENVIRONMENT: undefined, CONSOLE_RULES: 'open' })).toEqual(yes);
});

it('without the binding the console says what is missing', async () => {
  const filter = await Filter.start({ origin });
  const page = await fetch(`${filter.url}/_hedgerow/`);
  expect([page.status, await page.json()]).toEqual([503, { error: { code: 'unavailable', message: expect.stringContaining('ASSETS'), remedy: expect.stringContaining('wrangler.toml') } }]);
  await filter.dispose();
});

describe('what is told of traffic', () => {
  let fleet: Fleet;
  let admin: Admin;
  const ids: string[] = [];
  beforeAll(async () => {
    fleet = await Fleet.start({ origin, workers: 2, vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN, READ_TOKEN: READ } });
    admin = new Admin(fleet.edge.url, READ);
    await new Admin(fleet.edge.url, TOKEN).release(keys, 1, bundleOf({ lantern_red: 22, meadow_wide: 14, meadow_deep: 14 }));
    await fleet.everywhere(1);
    for (const edge of fleet.edges) {
      for (const content of [phrase('lantern_red'), `${phrase('meadow_wide')} ${phrase('meadow_deep')}`, 'When do blackbirds nest?']) {
        ids.push((await edge.ask(content)).headers.get('x-hedgerow-request-id')!);
      }
    }
    await sleep(1500);
    for (const edge of fleet.edges) await edge.ask();
  });
  afterAll(() => fleet?.dispose());

  const found = (query: string, count: number) =>
    eventually(`decisions for ${query}`, async () => {
      const answer = await admin.got(`/decisions${query}`);
      expect(answer.decisions.length).toBe(count);
      return answer.decisions;
    });

  it('a decision is found by what the client saw, with all that its score is made of', async () => {
    const [decision] = await found(`?id=${ids[1]}`, 1);
    expect(decision).toMatchObject({
      request_id: ids[1], colo: 'local', model: 'demo-large', dialect: 'openai', operation: 'chat', band: 'suspect', action: expect.any(String), mode: 'shadow', serial: 1, role: 'active', error: null,
      account: expect.stringMatching(/^[0-9a-f]{32}$/), prior: -20, evidence: 25,
      contributions: [{ family: 'meadow', raw: 28, capped: 25 }],
      hits: [{ name: 'meadow_deep', family: 'meadow', weight: 14 }, { name: 'meadow_wide', family: 'meadow', weight: 14 }].map((hit) => ({ ...hit, evidence: [{ field: 'hedgerow.prompt.user', start: expect.any(Number), end: expect.any(Number) }] })),
    });
    expect(Math.abs(decision.at - Date.now())).toBeLessThan(60_000);
    expect(JSON.stringify(decision)).not.toMatch(/quiet hedgerow|sk-test/);
  });

  it('decisions are filtered by band, signature, account, model and colo; the newest comes first', async () => {
    await found('?signature=lantern_red', 2);
    await found('?band=suspect', 4);
    await found('?band=suspect&signature=meadow_wide', 2);
    await found('?model=none', 0);
    await found('?colo=local&band=suspect', 4);
    const [{ account }] = await found(`?id=${ids[0]}`, 1);
    expect((await admin.got(`/decisions?account=${account.slice(0, 10)}`)).decisions.length).toBeGreaterThanOrEqual(4);
    const all = await admin.got('/decisions?limit=4');
    expect(all.decisions.map(({ at }: { at: number }) => at)).toEqual(all.decisions.map(({ at }: { at: number }) => at).toSorted((a: number, b: number) => b - a));
    expect([all.decisions.length, all.capacity]).toEqual([4, 2000]);
    for (const limit of ['0', '501', 'all', '-1']) expect((await admin.get(`/decisions?limit=${limit}`)).status).toBe(400);
  });

  it('counts over time: by band, action, score, signature and ruleset', async () => {
    const series = await eventually('the counts', async () => {
      const series = await admin.got('/series?minutes=15');
      expect(series.signatures.find(({ name }: { name: string }) => name === 'lantern_red')?.hits).toBe(2);
      return series;
    });
    expect([series.step, series.at.length]).toEqual([60, 15]);
    const sum = (points: number[]) => points.reduce((sum, point) => sum + point, 0);
    const requests = sum(Object.values(series.bands).map((points) => sum(points as number[])));
    expect(sum(series.bands.suspect)).toBe(4);
    expect(sum(series.scores)).toBe(requests);
    expect(sum(series.rulesets.map((own: { requests: number }) => own.requests))).toBe(requests);
    expect(series.rulesets).toContainEqual(expect.objectContaining({ serial: 1, role: 'active', bands: expect.objectContaining({ suspect: 4 }) }));
    for (const minutes of [60, 360, 1440, 10_080, 43_200]) {
      const longer = await admin.got(`/series?minutes=${minutes}`);
      expect([minutes, sum(longer.bands.suspect)]).toEqual([minutes, 4]);
    }
    expect((await admin.get('/series?minutes=0')).status).toBe(400);
  });

  it('who watches is told when something is new, and nobody may without a ticket', async () => {
    const socket = (ticket: string) => new WebSocket(`${fleet.edge.url.replace('http', 'ws')}/_hedgerow/v1/live`, ['hedgerow.v1', `ticket.${ticket}`]);
    const { ticket, expires } = await admin.got('/live/ticket');
    expect(expires - Date.now() / 1000).toBeLessThanOrEqual(31);
    expect(ticket).not.toContain(READ);
    const watching = socket(ticket);
    let told = 0;
    watching.onmessage = () => told++;
    await new Promise((done, fail) => ((watching.onopen = done), (watching.onerror = fail)));
    expect(watching.protocol).toBe('hedgerow.v1');
    await fleet.edge.ask();
    await eventually('a message', async () => expect(told).toBeGreaterThan(0));
    watching.close();
    const [, mac] = ticket.split('.');
    for (const wrong of [READ, `${expires + 3600}.${mac}`, `${expires}.${'0'.repeat(32)}`]) {
      const refused = socket(wrong);
      let opened = false;
      refused.onopen = () => (opened = true);
      await new Promise((done) => (refused.onclose = done));
      expect([wrong, opened]).toEqual([wrong, false]);
    }
    // A ticket opens nothing else.
    const answer = await fetch(`${fleet.edge.url}/_hedgerow/v1/status`, { headers: { 'sec-websocket-protocol': `hedgerow.v1, ticket.${ticket}` } });
    expect(answer.status).toBe(401);
    expect((await admin.get('/live')).status).toBe(426);
  });

  it('the document was measured against all of it', () => {
    for (const call of ['series', 'decisions', 'live/ticket']) expect([...met]).toContain(`GET /_hedgerow/v1/${call} 200`);
  });

  it('decisions outlast a restart', async () => {
    await found('?band=suspect', 4);
    // An alarm stores them some seconds after they came.
    await sleep(8_000);
    await fleet.stop();
    await fleet.start();
    admin = new Admin(fleet.edge.url, READ);
    expect((await found(`?id=${ids[0]}`, 1))[0].band).toBe('suspect');
  });
});

it('decisions are forgotten after a week', { timeout: 60_000 }, async () => {
  const fleet = await Fleet.start({ origin, workers: 1, faults: true, vars: { READ_TOKEN: READ } });
  const admin = new Admin(fleet.edge.url, READ);
  const id = (await fleet.edge.ask()).headers.get('x-hedgerow-request-id')!;
  const kept = async (own = admin) => (await own.got(`/decisions?id=${id}`)).decisions.length;
  await eventually('the decision', async () => expect(await kept()).toBe(1));
  await sleep(9_000);
  await fleet.fault({ clock: 8 * 86_400_000 });
  expect(await kept()).toBe(0);
  // The next report brings the alarm that clears up.
  await fleet.edge.ask();
  await sleep(9_000);
  await fleet.stop();
  await fleet.start();
  // By the clock of today it would be young enough, were it still there.
  expect(await kept(new Admin(fleet.edge.url, READ))).toBe(0);
  await fleet.dispose();
});

const PANICS = path.join(ROOT, 'build-faults');
if (!existsSync(PANICS)) console.log('skipped: build-faults/ does not exist (`node scripts/build.mjs faults`)');
it.skipIf(!existsSync(PANICS))('a request that could not be scored is among the decisions, with the reason', async () => {
  const filter = await Filter.start({ origin, build: 'build-faults', vars: { READ_TOKEN: READ, REPORT_SECONDS: '1' } });
  const admin = new Admin(filter.url, READ);
  const answer = await filter.post('/v1/chat/completions', { messages: [{ role: 'user', content: 'When do blackbirds nest?' }] }, { 'x-hedgerow-inject-panic': '1' });
  const id = answer.headers.get('x-hedgerow-request-id');
  const [decision] = await eventually('the decision', async () => {
    await filter.ask();
    const { decisions } = await admin.got('/decisions?band=unscored');
    expect(decisions).toHaveLength(1);
    return decisions;
  });
  expect(decision).toMatchObject({ request_id: id, score: null, band: null, error: 'scoring panicked', dialect: 'openai', hits: [], contributions: [] });
  await filter.dispose();
});

it('a ledger that fails is said to, and costs no request', async () => {
  const fleet = await Fleet.start({ origin, workers: 1, faults: true, vars: { READ_TOKEN: READ } });
  const admin = new Admin(fleet.edge.url, READ);
  await fleet.fault({ ledger: 'throw' });
  for (const place of ['/series', '/decisions']) expect([(await admin.get(place)).status, (await admin.get(place)).body.error.remedy]).toEqual([503, expect.stringContaining('counted all the same')]);
  expect((await fleet.edge.ask()).status).toBe(200);
  await fleet.fault({ ledger: null });
  await eventually('it', async () => expect((await admin.get('/decisions')).status).toBe(200));
  await fleet.dispose();
});
