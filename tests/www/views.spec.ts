// The views that need a token, on the built Worker with traffic flowing: with data, empty, with the ledger down, with a wrong token.
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { demo } from '../../scripts/demo-traffic.mjs';
import { keyPair } from '../edge/minisign.ts';
import { Admin, bundleOf, signature } from '../edge/release.ts';
import { eventually, Fleet, Origin } from '../edge/support.ts';
import { ARTIFACTS, axe, launch, open, overflows, runs, SIZES, THEMES } from './browser.ts';

const keys = keyPair();
const TOKEN = 'publish-token-of-the-tests';
const READ = 'read-token-of-the-tests';
const VIEWS = ['overview', 'decisions', 'clusters'] as const;
/** What the browser itself says of an answer that is no success. */
const REFUSED = /Failed to load resource: the server responded with a status of (401|403|503)/;

describe.skipIf(!runs)('the views', { timeout: 120_000 }, () => {
  let browser: Browser;
  let origin: Origin;
  let fleet: Fleet;
  let admin: Admin;
  const at = (place: string) => `${fleet.edge.url}/_hedgerow/#/${place}`;
  const show = (place: string, options: Parameters<typeof open>[2] = {}) => open(browser, at(place), { token: READ, ...options });
  const headline = async (page: Page) => Number((await page.locator('.headline').first().innerText()).replace(/[^\d]*([\d,]+)[^]*/, '$1').replaceAll(',', ''));

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    origin.answer = Origin.ok;
    fleet = await Fleet.start({ origin, workers: 1, console: true, faults: true, vars: { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN, READ_TOKEN: READ } });
    admin = new Admin(fleet.edge.url, READ);
  });
  afterAll(async () => {
    await browser?.close();
    await fleet?.dispose();
    await origin?.close();
  });

  it('empty, they say what there would be and how to get it', async () => {
    for (const [view, expected] of [['overview', 'npm run demo'], ['decisions', 'No decision is kept yet'], ['clusters', 'no cluster']] as const) {
      const { page, check, close } = await show(view);
      await page.getByText(new RegExp(expected, 'i')).first().waitFor();
      expect([view, await axe(page)]).toEqual([view, []]);
      check();
      await close();
    }
  });

  it('the overview moves while traffic flows, by itself', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    await page.getByText('live', { exact: true }).waitFor();
    const traffic = demo(fleet.edge.url, { seconds: 20, rate: 60 });
    const seen: number[] = [];
    for (let round = 0; round < 4; round++) {
      await eventually('more requests', async () => {
        const now = await headline(page);
        expect(now).toBeGreaterThan(seen.at(-1) ?? 0);
        seen.push(now);
      });
    }
    const counts = (await traffic) as Record<string, Record<string, number>>;
    expect(Object.keys(counts)).toEqual(['ordinary', 'instruction records', 'reasoning traces', 'grading']);
    // People are left alone, whatever the campaigns do.
    const { clear = 0, ...rest } = counts.ordinary!;
    expect(Object.values(rest).reduce((sum, count) => sum + count, 0)).toBeLessThan(clear / 50);
    check();
    await close();
  });

  it('without a socket it asks again by itself', async () => {
    const context = await browser.newContext();
    await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), READ);
    const page = await context.newPage();
    await page.routeWebSocket(/\/live$/, (socket) => socket.close());
    await page.goto(at('overview?minutes=15'));
    await page.getByText(/polling/).waitFor();
    const before = await headline(page);
    for (let number = 0; number < 5; number++) await fleet.edge.ask();
    await eventually('the new requests', async () => expect(await headline(page)).toBeGreaterThanOrEqual(before + 5));
    await context.close();
  });

  it('campaigns turn up as clusters, with what links them', async () => {
    const clusters = await eventually('three clusters', async () => {
      const { clusters } = await admin.got('/clusters');
      expect(clusters.filter(({ accounts }: { accounts: number }) => accounts >= 10).length).toBeGreaterThanOrEqual(3);
      return clusters;
    });
    const { page, check, close } = await show('clusters');
    await page.getByRole('link', { name: clusters[0].id }).first().click();
    await page.getByText('When the indicators held').or(page.locator('.timeline')).first().waitFor();
    expect(await page.locator('main').innerText()).toContain(clusters[0].id);
    check();
    await close();
  });

  it('a decision is followed from what the client saw to its waterfall', async () => {
    const answer = await fleet.edge.ask('Write 20 diverse instruction-response pairs as JSON lines, to fine-tune a student model.', { authorization: 'Bearer sk-followed' });
    const id = answer.headers.get('x-hedgerow-request-id')!;
    await eventually('the decision', async () => expect((await admin.got(`/decisions?id=${id}`)).decisions).toHaveLength(1));
    const { page, check, close } = await show('decisions');
    await page.getByLabel('Request id').fill(id);
    await page.getByLabel('Request id').press('Enter');
    await page.locator('table.decisions tbody tr').first().click();
    await page.locator('.waterfall').waitFor();
    const [decision] = (await admin.got(`/decisions?id=${id}`)).decisions;
    const number = (text: string) => Number(text.replace('−', '-').replace(/[^\d.-]/g, ''));
    const weights = (await page.locator('.waterfall tbody td.number').allInnerTexts()).map(number);
    const sum = weights.at(-1)!;
    expect(weights.slice(0, -1).reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(sum, 0);
    expect(sum).toBeCloseTo(decision.prior + decision.evidence, 0);
    expect(Math.round(1000 / (1 + 10 ** (-sum / 10))) / 10).toBeCloseTo(decision.score, 0);
    const detail = await page.locator('.detail').innerText();
    for (const part of [id, decision.account.slice(0, 8), 'hedgerow.prompt.instruction bytes', decision.ruleset.slice(0, 8)]) expect(detail).toContain(part);
    expect(detail).toMatch(/no prompt text|never stores/i);
    // It closes by keyboard, and the focus goes back to its row.
    await page.keyboard.press('Escape');
    await page.locator('.detail').waitFor({ state: 'detached' });
    check();
    await close();
  });

  it('with data they are accessible and fit, in both themes and at every size; screenshots', { timeout: 240_000 }, async () => {
    const { clusters } = await admin.got('/clusters');
    const { decisions } = await admin.got('/decisions?band=hostile&limit=1');
    const places = ['overview?minutes=15', 'decisions', `decisions?open=${decisions[0].request_id}`, 'clusters', `clusters?id=${clusters[0].id}`];
    const names = ['overview', 'decisions', 'decision', 'clusters', 'cluster'];
    for (const colorScheme of THEMES) {
      for (const viewport of SIZES) {
        const { page, check, close } = await show('overview', { colorScheme, viewport });
        for (const [number, place] of places.entries()) {
          await page.goto(at(place));
          await page.locator('main .panel:visible').first().waitFor();
          await page.waitForFunction(() => !document.querySelector('.loading'));
          if (number === 0) await page.locator('.chart canvas').waitFor();
          const what = `${names[number]} ${colorScheme} ${viewport.width}`;
          expect([what, await axe(page)]).toEqual([what, []]);
          expect([what, await overflows(page)]).toEqual([what, []]);
          await page.screenshot({ path: path.join(ARTIFACTS, `${names[number]}-${colorScheme}-${viewport.width}.png`), fullPage: true });
        }
        check();
        await close();
      }
    }
  });

  it('all of it can be reached by keyboard, and the focus is seen', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    await page.locator('.chart canvas').waitFor();
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Skip to content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
    const reached = new Set<string>();
    for (let press = 0; press < 60; press++) {
      await page.keyboard.press('Tab');
      const focus = await page.evaluate(() => {
        const { activeElement } = document;
        if (!activeElement || activeElement === document.body) return null;
        const { outlineStyle, outlineWidth } = getComputedStyle(activeElement);
        return { name: activeElement.textContent || activeElement.getAttribute('aria-label') || activeElement.id || activeElement.tagName, seen: outlineStyle !== 'none' && outlineWidth !== '0px' };
      });
      if (!focus) break;
      expect(focus).toMatchObject({ seen: true });
      reached.add(focus.name);
    }
    for (const name of ['By action', 'Show as table']) expect([...reached]).toContain(name);
    check();
    await close();
  });

  it('nothing jumps while live data come', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    await page.locator('.chart canvas').waitFor();
    await page.waitForTimeout(1000);
    await page.evaluate(() => {
      const own = window as never as { shift: number };
      own.shift = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) own.shift += (entry as never as { value: number }).value;
      }).observe({ type: 'layout-shift' });
    });
    const before = await headline(page);
    for (let number = 0; number < 20; number++) await fleet.edge.ask();
    await eventually('the new requests', async () => expect(await headline(page)).toBeGreaterThan(before));
    await page.waitForTimeout(500);
    expect(await page.evaluate(() => (window as never as { shift: number }).shift)).toBeLessThan(0.02);
    check();
    await close();
  });

  afterEach(() => fleet.fault({ ledger: null }));

  it('with the ledger down they say so, with the remedy, and come back by themselves', async () => {
    await fleet.fault({ ledger: 'throw' });
    for (const view of VIEWS) {
      const { page, check, close } = await show(view);
      await page.getByRole('alert').first().waitFor();
      await page.waitForFunction(() => !document.querySelector('.loading'));
      expect([view, await page.locator('main').innerText()]).toEqual([view, expect.stringMatching(/ledger/i)]);
      expect([view, await axe(page)]).toEqual([view, []]);
      check(new RegExp(`${REFUSED.source}|WebSocket`));
      if (view === 'decisions') {
        await fleet.fault({ ledger: null });
        await page.locator('table.decisions tbody tr').first().waitFor({ timeout: 30_000 });
        await fleet.fault({ ledger: 'throw' });
      }
      await close();
    }
    await fleet.fault({ ledger: null });
  });

  it('a token stays in its tab: in sessionStorage, nowhere else; a wrong one is refused with the remedy', async () => {
    const { page, check, close } = await open(browser, at('overview'));
    const entered = async (token: string) => {
      await page.getByLabel('Token', { exact: true }).fill(token);
      await page.getByRole('button', { name: 'Open' }).click();
    };
    expect(await axe(page)).toEqual([]);
    await entered('wrong-token-of-the-tests');
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').innerText()).toMatch(/ADMIN_TOKEN or READ_TOKEN/);
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
    await entered(READ);
    await page.locator('.headline').first().waitFor();
    const kept = await page.evaluate(async () => ({ session: { ...sessionStorage }, local: JSON.stringify({ ...localStorage }), cookie: document.cookie, url: location.href, databases: (await indexedDB.databases()).length, caches: (await caches.keys().catch(() => [])).length }));
    expect(kept).toMatchObject({ session: { 'hedgerow.token': READ }, cookie: '', databases: 0, caches: 0 });
    expect(kept.local + kept.url).not.toContain(READ);
    // Another tab has none.
    const other = await page.context().newPage();
    await other.goto(at('overview'));
    await other.getByLabel('Token', { exact: true }).waitFor();
    // One that was right and is so no more is forgotten.
    await page.evaluate(() => sessionStorage.setItem('hedgerow.token', 'stale-token-of-the-tests'));
    await page.reload();
    await page.getByLabel('Token', { exact: true }).waitFor({ timeout: 30_000 });
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
    check(new RegExp(`${REFUSED.source}|WebSocket connection`));
    await close();
  });

  it('an indicator is revoked with a reason; the token that only reads is told what it lacks', async () => {
    const { indicators } = await admin.got('/indicators?limit=1');
    const [{ key }] = indicators;
    for (const [token, outcome] of [[READ, /only reads/i], [TOKEN, /revoked/i]] as const) {
      const { page, check, close } = await open(browser, at('clusters'), { token });
      await page.locator('.indicator-groups').waitFor();
      for (const group of await page.locator('.indicator-groups summary').all()) await group.click();
      expect(await axe(page)).toEqual([]);
      await page.getByRole('button', { name: `Revoke key ${key}` }).first().click();
      const dialog = page.getByRole('dialog');
      expect(await axe(page)).toEqual([]);
      await dialog.getByLabel('Reason').fill('our own evaluation');
      await dialog.getByLabel(/Author|Your name/).fill('ana');
      await dialog.getByRole('button', { name: /Revoke/ }).click();
      await dialog.getByText(outcome).first().waitFor();
      check(REFUSED);
      await close();
    }
    expect((await admin.got(`/indicators/${key}`)).indicators[0]).toMatchObject({ revoked: expect.any(Number), reason: 'our own evaluation' });
    expect((await admin.got('/audit')).entries).toContainEqual(expect.objectContaining({ what: 'indicator.revoke', author: 'ana', result: 'ok' }));
  });

  it('an exemption is a block for the policy, with reason and end', async () => {
    const { decisions } = await admin.got('/decisions?band=hostile');
    const { cluster } = decisions.find(({ cluster }: { cluster?: string }) => cluster);
    const { page, check, close } = await show(`clusters?id=${cluster}`);
    await page.getByRole('button', { name: /Exempt/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Reason/).fill('a partner’s "evaluation"');
    const block = await dialog.locator('pre').first().innerText();
    expect(block).toMatch(/^\[\[(exemption|cluster)\]\]/);
    expect(block).toMatch(/until = \d{4}-\d\d-\d\d/);
    expect(await axe(page)).toEqual([]);
    check();
    await close();
  });

  it('hostile names do nothing but look odd', async () => {
    const hostile = '<img src=x onerror=alert(1)>';
    await new Admin(fleet.edge.url, TOKEN).release(keys, 1, bundleOf({}, { signatures: [{ ...signature('odd_one', 30, { exists: true }), title: hostile, name: hostile, family: '"><script>alert(2)</script>' }] }));
    await fleet.everywhere(1);
    const answer = await fleet.edge.post('/v1/chat/completions', { model: hostile, messages: [{ role: 'user', content: hostile }] }, { 'user-agent': hostile, 'x-forwarded-for': hostile, authorization: `Bearer ${hostile}` });
    const id = answer.headers.get('x-hedgerow-request-id')!;
    await eventually('the decision', async () => expect((await admin.got(`/decisions?id=${id}`)).decisions).toHaveLength(1));
    for (const place of [`decisions?open=${id}`, 'overview?minutes=15', 'clusters', `decisions?signature=${encodeURIComponent(hostile)}`, `decisions?model=${encodeURIComponent(hostile)}`, `clusters?id=${encodeURIComponent(hostile)}`]) {
      const { page, check, close } = await show(place);
      page.on('dialog', () => expect.unreachable('a dialog was opened'));
      await page.waitForFunction(() => !document.querySelector('.loading'));
      await page.waitForTimeout(300);
      expect(await page.locator('img, main script').count()).toBe(0);
      if (place.startsWith('decisions?open')) expect(await page.locator('.detail').innerText()).toContain(hostile);
      check(/status of 404/);
      await close();
    }
  });

  it('it is there soon: against a blank page of the same server, with a cold cache', async () => {
    const time = async (place: string, ready: string) => {
      const context = await browser.newContext();
      await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), READ);
      const page = await context.newPage();
      const began = performance.now();
      await page.goto(`${fleet.edge.url}${place}`);
      await page.locator(ready).first().waitFor();
      const ms = performance.now() - began;
      await context.close();
      return ms;
    };
    const blank: number[] = [];
    const own: number[] = [];
    for (let round = 0; round < 5; round++) {
      blank.push(await time('/_hedgerow/version', 'body'));
      own.push(await time('/_hedgerow/#/overview?minutes=15', '.headline'));
    }
    const median = (all: number[]) => all.toSorted((a, b) => a - b)[2]!;
    console.log(`the overview with its numbers after ${median(own).toFixed(0)} ms, a blank page after ${median(blank).toFixed(0)} ms: ${(median(own) / median(blank)).toFixed(1)} times`);
    // 1.5 s is some twenty blank pages here.
    expect(median(own) / median(blank)).toBeLessThan(20);
  });
});
