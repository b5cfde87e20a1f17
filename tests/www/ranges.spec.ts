// Parts that all views share: addresses, time ranges, the clock, the mode, and small screens.
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from '../edge/minisign.ts';
import { Admin, makeBundle } from '../edge/release-fixtures.ts';
import { eventually, Fleet, Origin } from '../edge/support.ts';
import { canRun, expectAccessible, launch, loaded, open, POLL, THEMES } from './browser.ts';

const keys = keyPair();
const TOKEN = 'admin-token-of-the-tests';
const READ = 'read-token-of-the-tests';
const TITLES = {
  overview: 'Overview',
  decisions: 'Decisions',
  clusters: 'Clusters',
  playground: 'Playground',
  rules: 'Rules',
} as const;
const VIEWS = Object.keys(TITLES) as (keyof typeof TITLES)[];
/** A time zone whose offset is not a whole number of hours. */
const ZONE = { timezoneId: 'Asia/Kathmandu' };
const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const STEPS = 6;

describe.skipIf(!canRun)('all views', () => {
  let browser: Browser;
  let origin: Origin;
  let fleet: Fleet;
  let operator: Admin;
  /** End of a range in the past, in milliseconds since the epoch. */
  const end = Math.floor(Date.now() / MINUTE) * MINUTE - 20 * MINUTE;
  const past = `since=${end - STEPS * MINUTE}&until=${end}`;
  const at = (location: string) => `${fleet.edge.url}/_hedgerow/#/${location}`;
  const show = (location: string, options: Parameters<typeof open>[2] = {}) =>
    open(browser, at(location), { token: READ, ...options });
  /** Returns the parameters of the address. */
  const params = async (page: Page) =>
    new URLSearchParams(new URL(page.url()).hash.split('?', 2)[1] ?? '');

  /** Answers a query for counts with 100 requests per minute, and with 80 a day before. */
  const mockSeries = (page: Page) =>
    page.route(/\/v1\/series\?.*until=/, async (route) => {
      const query = new URL(route.request().url()).searchParams;
      const until = Number(query.get('until'));
      const minutes = Number(query.get('minutes'));
      const count = until <= end - DAY + MINUTE ? 80 : 100;
      const times = Array.from(
        { length: minutes },
        (_, step) => until / 1000 - 60 * (minutes - step),
      );
      const steps = (value: number) => times.map(() => value);
      const none = steps(0);
      await route.fulfill({
        json: {
          minutes,
          step: 60,
          at: times,
          bands: { clear: steps(count - 10), notice: none, suspect: none, hostile: steps(10) },
          actions: { allow: steps(count), tag: none, degrade: none, throttle: none, block: none },
          scores: [count * minutes, ...Array.from({ length: 19 }, () => 0)],
          signatures: [{ name: 'a_signature', hits: minutes * count, points: steps(count) }],
          errors: [],
          rulesets: [],
        },
      });
    });

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    origin.handler = Origin.ok;
    const vars = { PUBLIC_KEYS: keys.publicKey, ADMIN_TOKEN: TOKEN, READ_TOKEN: READ };
    fleet = await Fleet.start({ origin, workers: 1, console: true, vars });
    operator = new Admin(fleet.edge, TOKEN);
    for (let number = 0; number < 5; number++) {
      await fleet.edge.ask('Write 20 diverse instruction-response pairs to fine-tune a model.');
    }
    await eventually('the decisions', async () => {
      expect((await operator.getOk('/decisions')).decisions.length).toBeGreaterThanOrEqual(5);
    });
  });
  afterAll(async () => {
    await browser?.close();
    await fleet?.dispose();
    await origin?.close();
  });

  it('open at an address that changes while the page loads, 50 times of 50', async () => {
    const { page, check, close } = await show('overview');
    await loaded(page);
    // Changes the address right after the first rendering, before the page listens to changes.
    await page.context().addInitScript(() => {
      const next = sessionStorage.getItem('next');
      if (!next) return;
      new MutationObserver((_, observer) => {
        if (!document.querySelector('main h1')) return;
        observer.disconnect();
        location.hash = next;
      }).observe(document, { childList: true, subtree: true });
    });
    let opened = 0;
    for (let number = 0; number < 50; number++) {
      const view = (['decisions', 'clusters'] as const)[number % 2]!;
      await page.evaluate((next) => {
        history.replaceState(null, '', '#/overview');
        sessionStorage.setItem('next', next);
      }, `#/${view}`);
      await page.reload();
      await page.getByRole('heading', { name: TITLES[view], level: 1 }).waitFor();
      opened += 1;
    }
    expect(opened).toBe(50);
    // A reload may end a WebSocket that is being opened.
    check(/WebSocket/);
    await close();
  });

  it('have the range of the view that was open before', async () => {
    const { page, check, close } = await show('overview?minutes=360&compare=week');
    await loaded(page);
    const link = (name: string) =>
      page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name, exact: true });
    await link('Clusters').click();
    await page.getByRole('heading', { name: 'Clusters', level: 1 }).waitFor();
    await link('Overview').click();
    const last = page.getByLabel('Last', { exact: true });
    await expect.poll(() => last.inputValue(), POLL).toBe('360');
    await expect.poll(() => page.getByLabel('Compare with').inputValue(), POLL).toBe('week');
    await link('Decisions').click();
    await expect.poll(() => page.getByLabel(/^From/).inputValue(), POLL).toMatch(/^\d{4}-/);
    // An open decision neither changes the range nor builds the list again.
    const list = page.locator('.decision-list');
    await list.evaluate((element) => element.setAttribute('data-same', ''));
    await page.locator('table.decisions tbody a[id]').first().click();
    await page.locator('.detail .waterfall').waitFor();
    expect(await list.getAttribute('data-same')).toBe('');
    await page.getByRole('button', { name: 'Close', exact: true }).click();
    await page.locator('.detail').waitFor({ state: 'detached' });
    await page.locator('select[name=enforced]').selectOption('true');
    await expect.poll(() => page.url(), POLL).toContain('enforced=true');
    await link('Overview').click();
    await expect.poll(() => last.inputValue(), POLL).toBe('360');
    await expect.poll(() => page.getByLabel('Compare with').inputValue(), POLL).toBe('week');
    await link('Decisions').click();
    // The decisions with a hit are those of the range.
    await page.locator('table.decisions tbody a[id]').first().click();
    await page.locator('.detail .waterfall button').first().click();
    await expect.poll(() => page.url(), POLL).toContain('signature=');
    expect((await params(page)).get('minutes')).toBe('360');
    // “Any time” removes the range.
    await page.getByRole('button', { name: 'Any time' }).click();
    await expect.poll(() => page.getByLabel(/^From/).inputValue(), POLL).toBe('');
    check();
    await close();
  });

  it('show the decisions of a step or a signature, and the range again', async () => {
    const { page, check, close } = await show('overview?minutes=360&compare=day');
    const link = (name: string) =>
      page.getByRole('navigation', { name: 'Views' }).getByRole('link', { name, exact: true });
    await page.getByRole('button', { name: 'Show as table' }).click();
    const table = page.getByRole('region', { name: 'Requests per minute, as a table' });
    await table.getByRole('link').last().click();
    await page.getByRole('heading', { name: 'Decisions', level: 1 }).waitFor();
    await page.getByText(/^Decisions from .* to /).waitFor();
    await page.locator('select[name=enforced]').selectOption('true');
    await expect.poll(() => page.url(), POLL).toContain('enforced=true');
    await page.getByText(/^Decisions from .* to /).waitFor();
    await link('Overview').click();
    await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    const last = page.getByLabel('Last', { exact: true });
    await expect.poll(() => last.inputValue(), POLL).toBe('360');
    await expect.poll(() => page.getByLabel('Compare with').inputValue(), POLL).toBe('day');
    // Without a range in the address, the links have the default.
    await page.goto(at('overview'));
    const hit = page.getByRole('region', { name: 'Signatures by hits' }).getByRole('link').first();
    await expect.poll(() => hit.getAttribute('href'), POLL).toContain('minutes=60');
    await hit.click();
    await page.getByText(/^Decisions from /).waitFor();
    check();
    await close();
  });

  it('show times in one format, with the zone, and in UTC on request', async () => {
    const { page, check, close } = await show('overview', ZONE);
    const format = /^(\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d{3})?)? UTC\S*|.* ago|in .*)$/;
    const times = async () => {
      const texts = await page.locator('main time').allInnerTexts();
      expect(texts.filter((text) => !format.test(text))).toEqual([]);
      return texts.filter((text) => text.includes('UTC')).map((text) => text.split(' ').at(-1));
    };
    const zones = async () => [...new Set(await times())];
    for (const [view, hasTimes] of [
      ['decisions', true],
      ['overview', true],
      ['clusters', false],
    ] as const) {
      await page.goto(at(view));
      await loaded(page);
      // The overview has times in the table of its chart.
      if (view === 'overview') await page.getByRole('button', { name: 'Show as table' }).click();
      if (hasTimes) await expect.poll(zones, POLL).toEqual(['UTC+5:45']);
      else expect(['', 'UTC+5:45']).toContain((await zones()).join());
    }
    // The rows of a list differ, because they have milliseconds.
    await page.goto(at('decisions'));
    await page.locator('table.decisions tbody tr').first().waitFor();
    const rows = await page.locator('table.decisions time').allInnerTexts();
    expect(rows.every((row) => /\.\d{3} UTC/.test(row))).toBe(true);
    const utc = page.getByRole('button', { name: 'UTC', exact: true });
    await utc.click();
    await expect.poll(zones, POLL).toEqual(['UTC']);
    await page.reload();
    await page.locator('table.decisions tbody tr').first().waitFor();
    await expect.poll(zones, POLL).toEqual(['UTC']);
    await expect.poll(() => page.getByText(/From \(UTC\)/).count(), POLL).toBe(1);
    expect(await utc.getAttribute('aria-pressed')).toBe('true');
    await page.goto(at('overview?minutes=15'));
    await page.getByText(/mean per step of 60 s, times in UTC$/).waitFor();
    await utc.click();
    await page.getByText(/mean per step of 60 s, times in UTC\+5:45$/).waitFor();
    check();
    await close();
  });

  it('compare a range with the same range a day earlier', async () => {
    const { page, check, close } = await show('decisions');
    await mockSeries(page);
    await page.goto(at(`overview?${past}&compare=day`));
    const requests = page.locator('.summary .panel').first();
    const change = /600\s+▲ 25 % \(480 a day earlier\)/;
    await expect.poll(() => requests.innerText(), POLL).toMatch(change);
    const hostile = page.locator('.summary .panel').nth(1);
    const points = /▼ 2\.5 points \(13 % a day earlier\)/;
    await expect.poll(() => hostile.innerText(), POLL).toMatch(points);
    const signatures = page.getByRole('region', { name: 'Signatures by hits' });
    await expect.poll(() => signatures.innerText(), POLL).toMatch(/▲ 25 %/);
    await page.locator('.chart svg').waitFor();
    await expectAccessible(page);
    await page.getByRole('button', { name: 'Show as table' }).click();
    const table = page.getByRole('region', { name: 'Requests per minute, as a table' });
    const cells = () => table.locator('tbody tr').first().locator('td').allInnerTexts();
    await expect.poll(cells, POLL).toEqual(['10', '0', '0', '90', '80']);
    // Older counts than 31 days are deleted.
    const old = 25 * DAY;
    const since = end - old - STEPS * MINUTE;
    await page.goto(at(`overview?since=${since}&until=${end - old}&compare=week`));
    await page.getByText('Counts are kept for 31 days.').waitFor();
    check();
    await close();
  });

  it('zoom by dragging and by fields, and back', async () => {
    const { page, check, close } = await show('decisions');
    await mockSeries(page);
    await page.goto(at(`overview?${past}&compare=day`));
    await page.locator('.chart svg').waitFor();
    const plot = (await page.locator('.chart .plot').boundingBox())!;
    const y = plot.y + plot.height / 2;
    // From the second to the fourth of six steps.
    await page.mouse.move(plot.x + 0.25 * plot.width, y);
    await page.mouse.down();
    await page.mouse.move(plot.x + 0.4 * plot.width, y, { steps: 4 });
    await page.mouse.move(plot.x + 0.6 * plot.width, y, { steps: 4 });
    await page.mouse.up();
    const range = async () => {
      const query = await params(page);
      return [Number(query.get('since')), Number(query.get('until')), query.get('compare')];
    };
    const [start, middle] = [end - STEPS * MINUTE, end - 2 * MINUTE];
    await expect.poll(range, POLL).toEqual([start + MINUTE, middle, 'day']);
    await page.getByRole('button', { name: 'Zoom out' }).click();
    await expect.poll(range, POLL).toEqual([start - 2 * MINUTE, middle + 3 * MINUTE, 'day']);
    await page.goBack();
    await expect.poll(range, POLL).toEqual([start + MINUTE, middle, 'day']);
    // Without a pointer: the fields have the same range.
    const from = page.getByLabel(/^From \(/);
    const value = await from.inputValue();
    const shifted = new Date(Date.parse(`${value}Z`) - 30 * MINUTE).toISOString().slice(0, 16);
    await from.fill(shifted);
    await expect.poll(range, POLL).toEqual([start - 29 * MINUTE, middle, 'day']);
    await page.getByLabel(/^To \(/).fill(`2000${value.slice(4)}`);
    await page.getByText('“From” must be before “to”.').waitFor();
    await page.getByLabel('Range', { exact: true }).selectOption('60');
    await expect.poll(async () => (await params(page)).toString(), POLL).toMatch(/minutes=60/);
    check();
    await close();
  });

  it('keep the focus and the text while the user types a range and counts arrive', async () => {
    const { page, check, close } = await show('decisions');
    await mockSeries(page);
    // In the middle of an hour, so that a typed minute stays before the end.
    const since = end - (end % (60 * MINUTE)) - 30 * MINUTE;
    await page.goto(at(`overview?since=${since}&until=${since + 10 * MINUTE}`));
    const from = page.getByLabel(/^From \(/);
    const isFocused = (element: Element) => element === document.activeElement;
    const start = async () => Number((await params(page)).get('since'));
    const typeMinute = async (digits: string) => {
      await from.blur();
      await from.focus();
      // From the first part of the date to the minute. Each digit changes the range.
      for (let part = 0; part < 4; part++) await page.keyboard.press('ArrowRight');
      await page.keyboard.type(digits, { delay: 300 });
    };
    await typeMinute('25');
    await expect.poll(start, POLL).toBe(since - 5 * MINUTE);
    expect(await from.evaluate(isFocused)).toBe(true);
    // A time after the end stays in the field, although the page renders again.
    await typeMinute('59');
    await expect.poll(start, POLL).toBe(since - 25 * MINUTE);
    await page.getByText('“From” must be before “to”.').waitFor();
    await page.route(/\/v1\/status/, (route) => route.abort());
    await page.getByText(/cannot be reached|offline/).first().waitFor();
    expect(await from.inputValue()).toMatch(/:59$/);
    const zoomOut = page.getByRole('button', { name: 'Zoom out' });
    await zoomOut.click();
    await expect.poll(start, POLL).toBe(since - 60 * MINUTE);
    expect(await zoomOut.evaluate(isFocused)).toBe(true);
    await page.getByText('“From” must be before “to”.').waitFor({ state: 'detached' });
    check(/Failed to load resource/);
    await close();
  });

  it('show the mode', async () => {
    const mode = (page: Page) => page.locator('header .mode').innerText();
    for (const view of VIEWS) {
      const { page, check, close } = await show(view);
      await expect.poll(() => mode(page), POLL).toMatch(/Shadow$/);
      check();
      await close();
    }
    await operator.release(keys, 1, makeBundle({ quartz: 12 }, { policy: { mode: 'enforce' } }));
    await fleet.untilRelease(1);
    await eventually('counts in mode Enforce', async () => {
      await fleet.edge.ask();
      expect((await operator.status()).traffic.by_mode.enforce).toBeGreaterThan(0);
    });
    const { page, check, close } = await show('clusters');
    await expect.poll(() => mode(page), POLL).toMatch(/Enforce/);
    await expectAccessible(page);
    check();
    await close();
    await operator.call('POST', '/stop', { paths: ['/v1/chat/**'], reason: 'test', author: 'ana' });
    const stopped = await show('rules');
    await expect.poll(() => mode(stopped.page), POLL).toMatch(/Shadow: stopped in part$/);
    stopped.check();
    await stopped.close();
  });

  it('mark releases in the chart and in its table', async () => {
    const { page, check, close } = await show('overview?minutes=15');
    const mark = page.getByRole('list', { name: 'Releases' }).getByRole('button', {
      name: /^Release 1 \(release\), \d{4}-.* by ana/,
    });
    await mark.focus();
    await expect.poll(() => page.locator('.point-time').innerText(), POLL).toMatch(/^Release 1 /);
    await expectAccessible(page);
    await page.getByRole('button', { name: 'Show as table' }).click();
    const table = page.getByRole('region', { name: 'Requests per minute, as a table' });
    await table.getByRole('columnheader', { name: 'Release' }).waitFor();
    const cells = () => table.locator('tbody tr td:last-child').allInnerTexts();
    const serials = async () => (await cells()).filter((text) => text === '1');
    await expect.poll(serials, POLL).toEqual(['1']);
    check();
    await close();
  });

  // 720 px is 1440 px with a zoom of 200 %.
  it.each([1024, 720, 390])('show decisions without scrolling sideways at %d px', async (width) => {
    for (const colorScheme of THEMES) {
      const viewport = { width, height: 800 };
      const { page, check, close } = await show('decisions', { viewport, colorScheme });
      await page.locator('table.decisions tbody tr').first().waitFor();
      const measures = await page.evaluate(() => {
        const frame = document.querySelector('.decision-list .scroll')!;
        const table = document.querySelector<HTMLTableElement>('table.decisions')!;
        const rows = [...table.tBodies[0]!.rows];
        return {
          hidden: frame.scrollWidth - frame.clientWidth,
          blank: rows.filter((row) => !row.innerText.trim()).length,
          // Titles of values, which are at their beginning.
          titles: rows[0]!.cells[1]!.dataset.title,
          page: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        };
      });
      expect(measures).toMatchObject({ blank: 0, titles: 'Band' });
      expect(measures.hidden).toBeLessThanOrEqual(1);
      expect(measures.page).toBeLessThanOrEqual(1);
      // The filters are closed on small screens, and can be opened.
      const filter = page.getByLabel('Request id');
      expect(await filter.isVisible()).toBe(width >= 900);
      if (width < 900) {
        await page.locator('.filter-box > summary').click();
        await filter.waitFor();
      }
      await expectAccessible(page, `${colorScheme} ${width}`);
      check();
      await close();
    }
  });

  it('break names after underscores, not within words', async () => {
    const viewport = { width: 390, height: 800 };
    const { page, check, close } = await show('overview?minutes=60', { viewport });
    const names = page.locator('table.signatures tbody th a');
    await names.first().waitFor();
    const lines = await names.evaluateAll((links) =>
      links.map((link) => new Set([...link.getClientRects()].map(({ top }) => top)).size),
    );
    const parts = (await names.allInnerTexts()).map((name) => name.split('_').length);
    lines.forEach((count, index) => expect(count).toBeLessThanOrEqual(parts[index]!));
    check();
    await close();
  });
});
