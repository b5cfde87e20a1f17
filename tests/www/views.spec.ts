// The views that need a token, on the built Worker: with traffic, without data, during an outage of
// the ledger, and with a wrong token.
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { demo } from '../../scripts/demo-traffic.mjs';
import { referenceOf } from '../../www/src/decisions/appeal.ts';
import { keyPair } from '../edge/minisign.ts';
import { Admin, makeBundle, signature } from '../edge/release-fixtures.ts';
import { eventually, Fleet, Origin } from '../edge/support.ts';
import {
  canRun,
  expectAccessible,
  expectAccessibleAndFits,
  launch,
  loaded,
  open,
  POLL,
} from './browser.ts';

const keys = keyPair();
const TOKEN = 'admin-token-of-the-tests';
const READ = 'read-token-of-the-tests';
const VIEWS = ['overview', 'decisions', 'clusters'] as const;
const PROMPT =
  'Write 20 diverse instruction-response pairs as JSON lines, to fine-tune a student model.';
/** The browser's own console error for unsuccessful responses. */
const REFUSED = /Failed to load resource: the server responded with a status of (401|403|503)/;
const REFUSED_OR_SOCKET = new RegExp(`${REFUSED.source}|WebSocket`);

describe.skipIf(!canRun)('the views', () => {
  let browser: Browser;
  let origin: Origin;
  let fleet: Fleet;
  let admin: Admin;
  const at = (location: string) => `${fleet.edge.url}/_hedgerow/#/${location}`;
  const show = (location: string, options: Parameters<typeof open>[2] = {}) =>
    open(browser, at(location), { token: READ, ...options });
  /** Returns the number of requests in the summary of the overview. */
  const requestCount = async (page: Page) => {
    const figure = page.locator('.summary .figure').first();
    return Number((await figure.getAttribute('title'))!.replaceAll(',', ''));
  };
  /** Waits until the ledger has stored the decision of a request. */
  const storedDecision = (id: string) =>
    eventually('the decision', async () => {
      const { decisions } = await admin.getOk(`/decisions?id=${id}`);
      expect(decisions).toHaveLength(1);
      return decisions[0];
    });
  /**
   * Waits until a list of the API has an entry for which `fits` is true, and returns the first such
   * entry.
   */
  const firstOf = (list: string, address: string, fits: (entry: any) => unknown = () => true) =>
    eventually(`an entry of ${address}`, async () => {
      const entry = (await admin.getOk(address))[list].find(fits);
      expect(entry).toBeDefined();
      return entry;
    });

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    origin.handler = Origin.ok;
    const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN, READ_TOKEN: READ };
    fleet = await Fleet.start({ origin, workers: 1, console: true, faults: true, vars });
    admin = new Admin(fleet.edge, READ);
  });
  afterAll(async () => {
    await browser?.close();
    await fleet?.dispose();
    await origin?.close();
  });

  it.each([
    ['overview', /npm run demo/],
    ['decisions', /No decisions are stored yet/],
    ['clusters', /There are no clusters yet/],
  ])('%s without data says how to get some', async (view, expected) => {
    const { page, check, close } = await show(view);
    await page.getByText(expected).first().waitFor();
    await expectAccessible(page, view);
    check();
    await close();
  });

  it('the overview is updated while traffic flows', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    await page.getByText('live', { exact: true }).waitFor();
    const traffic = demo(fleet.edge.url, { seconds: 20, rate: 60 });
    let previous = 0;
    for (let round = 0; round < 4; round++) {
      await expect.poll(() => requestCount(page), POLL).toBeGreaterThan(previous);
      previous = await requestCount(page);
    }
    const counts = (await traffic) as Record<string, Record<string, number>>;
    const kinds = ['ordinary', 'instruction records', 'reasoning traces', 'grading'];
    expect(Object.keys(counts)).toEqual(kinds);
    // Expects that the campaigns have not affected the ordinary users.
    const { clear = 0, ...others } = counts.ordinary!;
    const flagged = Object.values(others).reduce((sum, count) => sum + count, 0);
    expect(flagged).toBeLessThan(clear / 50);
    check();
    await close();
  });

  it('the overview polls if there is no WebSocket', async () => {
    const context = await browser.newContext();
    await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), READ);
    const page = await context.newPage();
    await page.routeWebSocket(/\/live$/, (socket) => socket.close());
    await page.goto(at('overview?minutes=15'));
    await page.getByText(/polling/).waitFor();
    const before = await requestCount(page);
    for (let number = 0; number < 5; number++) await fleet.edge.ask();
    await expect.poll(() => requestCount(page), POLL).toBeGreaterThanOrEqual(before + 5);
    await context.close();
  });

  it('campaigns appear as clusters, with their indicators', async () => {
    const clusters = await eventually('three clusters', async () => {
      const { clusters } = await admin.getOk('/clusters');
      const large = clusters.filter(({ accounts }: { accounts: number }) => accounts >= 10);
      expect(large.length).toBeGreaterThanOrEqual(3);
      return clusters;
    });
    const [{ id }] = clusters;
    const { page, check, close } = await show('clusters');
    await page.getByRole('link', { name: id }).first().click();
    await page.locator('.timeline').waitFor();
    await page.getByRole('heading', { name: `Cluster ${id}` }).waitFor();
    // The timeline reaches from the first firing to now, so the indicators are active to its end.
    const ends = page.locator('.timeline .ends');
    await expect.poll(() => ends.innerText(), POLL).toMatch(/now, \d{4}/);
    const widths = await page.locator('.timeline .lane').evaluateAll((lanes) =>
      lanes.map((lane) => {
        const end = (element: Element) => element.getBoundingClientRect().right;
        return [end(lane), end(lane.querySelector('.active')!)];
      }),
    );
    for (const [lane, active] of widths) expect(active).toBeCloseTo(lane!, 0);
    check();
    await close();
  });

  it('a decision is found by its appeal reference; a mistyped one is called mistyped', async () => {
    const answer = await fleet.edge.ask(PROMPT, { authorization: 'Bearer sk-appealed' });
    const id = answer.headers.get('x-hedgerow-request-id')!;
    await storedDecision(id);
    const { page, check, close } = await show('decisions');
    const reference = referenceOf(id)!;
    const input = page.getByLabel('Request id');
    await input.fill(`Reference: ${reference.toLowerCase().replaceAll('-', ' ')}.`);
    await input.press('Enter');
    await page.locator(`table.decisions [id="decision-${id}"]`).click();
    await page.locator('.detail').getByText(reference).waitFor();
    await page.keyboard.press('Escape');
    await input.fill(reference.replace(/.$/, (last) => (last === '0' ? '1' : '0')));
    await input.press('Enter');
    await page.getByText('The appeal reference is mistyped').waitFor();
    check();
    await close();
  });

  it('a decision is found by its request id, and its waterfall adds up', async () => {
    const answer = await fleet.edge.ask(PROMPT, { authorization: 'Bearer sk-followed' });
    const id = answer.headers.get('x-hedgerow-request-id')!;
    const decision = await storedDecision(id);
    const { page, check, close } = await show('decisions');
    await page.getByLabel('Request id').fill(`x-hedgerow-request-id: ${id}`);
    await page.getByLabel('Request id').press('Enter');
    // Waits for the rows, because the list shows other decisions until the filter is applied.
    const rows = page.locator('table.decisions tbody tr');
    await expect.poll(() => rows.count(), POLL).toBe(1);
    await rows.locator(`[id="decision-${id}"]`).waitFor();
    await rows.first().click();
    const toNumber = (text: string) => Number(text.replace('−', '-').replace(/[^\d.-]/g, ''));
    const weights = async () => {
      const texts = await page.locator('.waterfall tbody td.number').allInnerTexts();
      return texts.map(toNumber);
    };
    const lastWeight = async () => (await weights()).at(-1);
    await expect.poll(lastWeight, POLL).toBeCloseTo(decision.prior + decision.evidence, 0);
    const all = await weights();
    const sum = all.pop()!;
    expect(all.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(sum, 0);
    expect(100 / (1 + 10 ** (-sum / 10))).toBeCloseTo(decision.score, 0);
    const detail = page.locator('.detail');
    const parts = [
      id,
      decision.account.slice(0, 8),
      'hedgerow.prompt.instruction bytes',
      decision.ruleset.slice(0, 8),
      'Hedgerow never stores text',
    ];
    for (const part of parts) await expect.poll(() => detail.innerText(), POLL).toContain(part);
    // Escape closes the decision, and moves the focus to its row.
    await page.keyboard.press('Escape');
    await detail.waitFor({ state: 'detached' });
    const focusedId = () => page.evaluate(() => document.activeElement?.id);
    await expect.poll(focusedId, POLL).toBe(`decision-${id}`);
    check();
    await close();
  });

  it('are accessible and fit, in both themes and all sizes', async () => {
    const { id } = await firstOf('clusters', '/clusters');
    const { request_id } = await firstOf('decisions', '/decisions?band=hostile&limit=1');
    /** Views with their names, addresses, and an element that earlier views do not have. */
    const locations = [
      ['overview', 'overview?minutes=15', '.chart svg'],
      ['decisions', 'decisions', 'table.decisions'],
      ['decision', `decisions?open=${request_id}`, '.detail .waterfall'],
      ['clusters', 'clusters', 'table.clusters'],
      ['cluster', `clusters?id=${id}`, '.timeline'],
    ] as const;
    const { page, check, close } = await show('overview');
    for (const [location, address, element] of locations) {
      await page.goto(at(address));
      await page.locator(element).first().waitFor();
      await loaded(page);
      await expectAccessibleAndFits(page, location);
    }
    check();
    await close();
  });

  it('all controls can be reached by keyboard, with a visible focus', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    await page.locator('.chart svg').waitFor();
    const focused = () => page.evaluate(() => document.activeElement?.textContent);
    const focusedId = () => page.evaluate(() => document.activeElement?.id);
    await page.keyboard.press('Tab');
    await expect.poll(focused, POLL).toBe('Skip to content');
    await page.keyboard.press('Enter');
    await expect.poll(focusedId, POLL).toBe('main');
    /** Returns the name of the focused element, and whether the focus is visible. */
    const focus = () =>
      page.evaluate(() => {
        const { activeElement } = document;
        if (!activeElement || activeElement === document.body) return null;
        const { outlineStyle, outlineWidth } = getComputedStyle(activeElement);
        const label = activeElement.textContent || activeElement.getAttribute('aria-label');
        return {
          name: label || activeElement.id || activeElement.tagName,
          isVisible: outlineStyle !== 'none' && outlineWidth !== '0px',
        };
      });
    const reached = new Set<string>();
    for (let press = 0; press < 60; press++) {
      await page.keyboard.press('Tab');
      const current = await focus();
      if (!current) break;
      await expect.poll(focus, POLL).toMatchObject({ isVisible: true });
      reached.add(current.name);
    }
    for (const name of ['By action', 'Show as table']) expect([...reached]).toContain(name);
    check();
    await close();
  });

  it('updates do not shift the layout', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    await page.locator('.chart svg').waitFor();
    await loaded(page);
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByText(/^Notice from/).waitFor();
    await nextFrame(page);
    await page.evaluate(() => {
      const shared = window as never as { observer: PerformanceObserver; shifts: number[] };
      const record = (entries: PerformanceEntryList) => {
        for (const entry of entries) {
          shared.shifts.push((entry as never as { value: number }).value);
        }
      };
      shared.shifts = [];
      shared.observer = new PerformanceObserver((list) => record(list.getEntries()));
      shared.observer.observe({ type: 'layout-shift' });
    });
    const before = await requestCount(page);
    for (let number = 0; number < 20; number++) await fleet.edge.ask();
    await expect.poll(() => requestCount(page), POLL).toBeGreaterThan(before);
    await nextFrame(page);
    const shift = await page.evaluate(() => {
      const { observer, shifts } = window as never as {
        observer: PerformanceObserver;
        shifts: number[];
      };
      const pending = observer.takeRecords() as never as { value: number }[];
      const all = [...shifts, ...pending.map(({ value }) => value)];
      return all.reduce((sum, value) => sum + value, 0);
    });
    expect(shift).toBeLessThan(0.02);
    check();
    await close();
  });

  describe('with the ledger down', () => {
    afterEach(() => fleet.setFaults({ ledger: null }));

    it.each(VIEWS)('%s says so, with the remedy', async (view) => {
      await fleet.setFaults({ ledger: 'throw' });
      const { page, check, close } = await show(view);
      await page.getByRole('alert').first().waitFor();
      await loaded(page);
      await expect.poll(() => page.locator('main').innerText(), POLL).toMatch(/ledger/i);
      await expectAccessible(page, view);
      check(REFUSED_OR_SOCKET);
      await close();
    });

    it('decisions appear when the ledger is back', async () => {
      await fleet.setFaults({ ledger: 'throw' });
      const { page, check, close } = await show('decisions');
      await page.getByRole('alert').first().waitFor();
      await fleet.setFaults({ ledger: null });
      await page.locator('table.decisions tbody tr').first().waitFor();
      check(REFUSED_OR_SOCKET);
      await close();
    });
  });

  it('an accepted token is stored only in the sessionStorage of its tab', async () => {
    const { page, check, close } = await open(browser, at('overview'));
    const enter = async (token: string) => {
      await page.getByLabel('Token', { exact: true }).fill(token);
      await page.getByRole('button', { name: 'Open' }).click();
    };
    const sessionItems = () => page.evaluate(() => sessionStorage.length);
    await expectAccessible(page);
    await enter('wrong-token-of-the-tests');
    await expect.poll(() => page.getByRole('alert').innerText(), POLL).toMatch(/READ_TOKEN/);
    expect(await sessionItems()).toBe(0);
    await enter(READ);
    await page.locator('.summary').first().waitFor();
    const stored = await page.evaluate(async () => ({
      session: { ...sessionStorage },
      local: JSON.stringify({ ...localStorage }),
      cookie: document.cookie,
      url: location.href,
      databases: (await indexedDB.databases()).length,
      caches: (await caches.keys().catch(() => [])).length,
    }));
    const session = { 'hedgerow.token': READ };
    expect(stored).toMatchObject({ session, cookie: '', databases: 0, caches: 0 });
    expect(stored.local + stored.url).not.toContain(READ);
    const otherTab = await page.context().newPage();
    await otherTab.goto(at('overview'));
    await otherTab.getByLabel('Token', { exact: true }).waitFor();
    // The page removes a token that the API no longer accepts.
    await page.evaluate(() => sessionStorage.setItem('hedgerow.token', 'stale-token-of-the-tests'));
    await page.reload();
    await page.getByLabel('Token', { exact: true }).waitFor();
    await expect.poll(sessionItems, POLL).toBe(0);
    check(REFUSED_OR_SOCKET);
    await close();
  });

  it.each([
    ['is rejected for a token that only reads', READ, /sign in with that token/],
    ['takes a reason', TOKEN, /The key is revoked/],
  ])('revoking an indicator %s', async (_, token, outcome) => {
    const { key } = await firstOf('indicators', '/indicators?limit=1');
    const { page, check, close } = await open(browser, at('clusters'), { token });
    await page.locator('.indicator-groups').waitFor();
    const closed = page.locator('.indicator-groups details:not([open]) > summary');
    while (await closed.count()) await closed.first().click();
    await expectAccessible(page);
    await page
      .getByRole('button', { name: `Revoke key ${key}` })
      .first()
      .click();
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    await expectAccessible(page);
    await dialog.getByLabel('Reason').fill('our own evaluation');
    await dialog.getByLabel('Your name').fill('ana');
    await dialog.getByRole('button', { name: /Revoke/ }).click();
    await dialog.getByText(outcome).first().waitFor();
    check(REFUSED);
    await close();
    if (token !== TOKEN) return;
    const revoked = await admin.getOk(`/indicators/${key}`);
    const reason = 'our own evaluation';
    expect(revoked.indicators[0]).toMatchObject({ revoked_at: expect.any(Number), reason });
    const { entries } = await admin.getOk('/audit');
    const entry = { action: 'indicator.revoke', author: 'ana', result: 'ok' };
    expect(entries).toContainEqual(expect.objectContaining(entry));
  });

  it('an exemption is a TOML entry with a reason and a last day', async () => {
    const hostile = '/decisions?band=hostile';
    const { cluster } = await firstOf('decisions', hostile, ({ cluster }) => cluster);
    const { page, check, close } = await show(`clusters?id=${cluster}`);
    await page.getByRole('button', { name: /Exempt/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Reason/).fill('a partner’s "evaluation"');
    const entry = () => dialog.locator('pre').first().innerText();
    await expect.poll(entry, POLL).toMatch(/^\[\[exemption\]\]/);
    await expect.poll(entry, POLL).toMatch(/reason = "a partner’s \\"evaluation\\""/);
    await expect.poll(entry, POLL).toMatch(/until = \d{4}-\d\d-\d\d/);
    await expectAccessible(page);
    check();
    await close();
  });

  it('hostile names are escaped', async () => {
    const hostile = '<img src=x onerror=alert(1)>';
    const hostileSignature = {
      ...signature('odd_one', 30, { exists: true }),
      title: hostile,
      name: hostile,
      family: '"><script>alert(2)</script>',
    };
    const bundle = makeBundle({}, { signatures: [hostileSignature] });
    await new Admin(fleet.edge, TOKEN).release(keys, 1, bundle);
    await fleet.untilRelease(1);
    const body = { model: hostile, messages: [{ role: 'user', content: hostile }] };
    const answer = await fleet.edge.post('/v1/chat/completions', body, {
      'user-agent': hostile,
      'x-forwarded-for': hostile,
      authorization: `Bearer ${hostile}`,
    });
    const id = answer.headers.get('x-hedgerow-request-id')!;
    await storedDecision(id);
    const name = encodeURIComponent(hostile);
    const locations = [
      `decisions?open=${id}`,
      'overview?minutes=15',
      'clusters',
      `decisions?signature=${name}`,
      `decisions?model=${name}`,
      `clusters?id=${name}`,
    ];
    for (const location of locations) {
      const { page, check, close } = await show(location);
      page.on('dialog', () => expect.unreachable('a dialog was opened'));
      await loaded(page);
      if (location.startsWith('decisions?open')) {
        const detail = page.locator('.detail');
        await expect.poll(() => detail.innerText(), POLL).toContain(hostile);
      }
      await nextFrame(page);
      expect(await page.locator('img, main script').count()).toBe(0);
      check(/status of 404/);
      await close();
    }
  });

  it('every view shows that enforcement is stopped, until it is resumed', async () => {
    const operator = new Admin(fleet.edge, TOKEN);
    const reason = 'customers are refused <img src=x>';
    const { body } = await operator.call('POST', '/stop', { reason, author: 'ana' });
    for (const view of [...VIEWS, 'playground', 'rules']) {
      const { page, check, close } = await show(view);
      await page.getByRole('alert').getByText(`by ana: ${reason}`).waitFor();
      if (view === 'overview') await expectAccessibleAndFits(page, 'stopped');
      check();
      await close();
    }
    const { page, check, close } = await show('overview');
    const banner = page.locator('.stop-banner');
    await banner.waitFor();
    const current = (await admin.status()).release?.serial ?? 0;
    await operator.release(keys, current + 1, 'embedded', { resumes: body.stop.at });
    // The banner asks for the status every 30 s.
    await banner.waitFor({ state: 'detached', timeout: 90_000 });
    check();
    await close();
  });

  it('the overview loads in less than 20 times the time of a blank page', async () => {
    const loadTime = async (address: string, ready: string) => {
      const context = await browser.newContext();
      await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), READ);
      const page = await context.newPage();
      const start = performance.now();
      await page.goto(`${fleet.edge.url}${address}`);
      await page.locator(ready).first().waitFor();
      const ms = performance.now() - start;
      await context.close();
      return ms;
    };
    const blankTimes: number[] = [];
    const overviewTimes: number[] = [];
    for (let round = 0; round < 5; round++) {
      blankTimes.push(await loadTime('/_hedgerow/version', 'body'));
      overviewTimes.push(await loadTime('/_hedgerow/#/overview?minutes=15', '.summary'));
    }
    const median = (all: number[]) => all.toSorted((a, b) => a - b)[2]!;
    const overview = median(overviewTimes);
    const blank = median(blankTimes);
    const ratio = overview / blank;
    console.log(
      `overview: ${overview.toFixed(0)} ms, blank page: ${blank.toFixed(0)} ms, ` +
        `ratio: ${ratio.toFixed(1)}`,
    );
    // The target is 1.5 s, which is about the time of 20 blank pages on the reference machine.
    expect(ratio).toBeLessThan(20);
  });
});

/** Waits until two frames are rendered. */
const nextFrame = (page: Page) =>
  page.evaluate(
    () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
  );
