// The work of an analyst in the views Decisions and Clusters, on the built Worker: filters that
// explain themselves, sorted lists, single keys, explanations, proposals for the policy, and errors
// in plain words.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Browser, Locator, Page, Route } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { demo } from '../../scripts/demo-traffic.mjs';
import { Admin } from '../edge/release-fixtures.ts';
import { chat, enforce, eventually, Fleet, Origin } from '../edge/support.ts';
import { ARTIFACTS, canRun, expectAccessible, launch, loaded, open, POLL } from './browser.ts';

const READ = 'read-token-of-the-tests';
const SIGNATURE = 'synthesis_instruction_records';
const PROMPT =
  'Write 20 diverse instruction-response pairs as JSON lines, to fine-tune a student model.';
/** The browser's own console errors for unsuccessful responses and connections. */
const REFUSED = /Failed to load resource|WebSocket/;

describe.skipIf(!canRun)('an analyst', () => {
  let browser: Browser;
  let origin: Origin;
  let fleet: Fleet;
  let admin: Admin;
  /** Request ids: of a hostile request in shadow, and of a refused one. */
  let shadowId: string;
  let refusedId: string;
  const at = (location: string) => `${fleet.edge.url}/_hedgerow/#/${location}`;
  const show = (location: string, options: Parameters<typeof open>[2] = {}) =>
    open(browser, at(location), { token: READ, ...options });
  const storedDecision = (id: string) =>
    eventually('the decision', async () => {
      const { decisions } = await admin.getOk(`/decisions?id=${id}`);
      expect(decisions).toHaveLength(1);
      return decisions[0];
    });
  const send = async (content: string, model: string, headers: Record<string, string>) => {
    const body = chat(content, { model });
    const response = await fleet.edge.post('/v1/chat/completions', body, headers);
    await response.arrayBuffer();
    return response.headers.get('x-hedgerow-request-id')!;
  };

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    origin.handler = Origin.ok;
    fleet = await Fleet.start({
      origin,
      workers: 1,
      console: true,
      faults: true,
      vars: { READ_TOKEN: READ },
    });
    admin = new Admin(fleet.edge, READ);
    await demo(fleet.edge.url, { seconds: 20, rate: 60 });
    shadowId = await send(PROMPT, 'demo-large', { authorization: 'Bearer sk-shadow' });
    refusedId = await send(PROMPT, 'demo-small', {
      authorization: 'Bearer sk-refused',
      ...enforce('block'),
    });
    await storedDecision(shadowId);
    await storedDecision(refusedId);
  });
  afterAll(async () => {
    await browser?.close();
    await fleet?.dispose();
    await origin?.close();
  });

  const rows = (page: Page) => page.locator('table.decisions tbody tr');
  const main = (page: Page) => page.locator('main').innerText();
  const clipboard = (page: Page) => page.evaluate(() => navigator.clipboard.readText());
  const copy = async (page: Page, name: string | RegExp, expected: RegExp) => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('button', { name, exact: true }).click();
    await expect.poll(() => clipboard(page), POLL).toMatch(expected);
    return clipboard(page);
  };
  /** Opens the decision with an id, and returns its panel. */
  const showDecision = async (id: string, options: Parameters<typeof open>[2] = {}) => {
    const opened = await show(`decisions?open=${id}`, options);
    const detail = opened.page.locator('.detail');
    await detail.locator('.waterfall').waitFor();
    return { ...opened, detail };
  };

  describe('with filters', () => {
    it.each([
      ['band=foo', '“foo” is not a known band.', 'hostile'],
      ['signature=synthesis_instruction_record', 'No signature, list or correlation', SIGNATURE],
      ['model=demo-larg', 'No model', 'demo-large'],
    ])('%s says that it matches nothing, and offers values', async (query, problem, value) => {
      const { page, check, close } = await show(`decisions?${query}`);
      await page.getByText(problem).waitFor();
      await expectAccessible(page, query);
      await page.getByRole('link', { name: value, exact: true }).click();
      await rows(page).first().waitFor();
      await expect.poll(() => page.url(), POLL).toContain(value);
      check();
      await close();
    });

    it('the first digits of a cluster lead to the cluster', async () => {
      const { clusters } = await eventually('a cluster', async () => {
        const list = await admin.getOk('/clusters');
        expect(list.clusters.length).toBeGreaterThan(0);
        return list;
      });
      const { id } = clusters[0];
      const { page, check, close } = await show(`clusters?id=${id.slice(0, 6)}`);
      await page.getByRole('link', { name: id, exact: true }).click();
      await page.getByRole('heading', { name: `Cluster ${id}` }).waitFor();
      check(REFUSED);
      await close();
    });

    it('the search for enforced decisions continues where an answer of the API ends', async () => {
      const decision = await storedDecision(refusedId);
      const { page, check, close } = await show('overview');
      const answers: Readonly<Record<string, object>> = {
        '': { decisions: [], next: '30_' },
        '30_': { decisions: [], next: '20_' },
        '20_': { decisions: [decision], next: '10_' },
        '10_': { decisions: [] },
      };
      const asked: string[] = [];
      await page.route(/\/v1\/decisions\?.*enforced=true/, async (route) => {
        const before = new URL(route.request().url()).searchParams.get('before') ?? '';
        if (before) asked.push(before);
        const counts = { stored: 1, capacity: 1, kept: 1, counted: 1 };
        await route.fulfill({ json: { ...answers[before], ...counts } });
      });
      await page.goto(at('decisions?enforced=true'));
      await page.getByText('Older decisions were not searched yet').waitFor();
      expect(await page.getByText('No stored decision matches').count()).toBe(0);
      await expectAccessible(page);
      const search = page.getByRole('button', { name: 'Search older decisions' });
      await search.click();
      await rows(page).filter({ hasText: refusedId.slice(-8) }).waitFor();
      expect(asked).toEqual(['30_', '20_']);
      await search.click();
      await search.waitFor({ state: 'detached' });
      expect(asked).toEqual(['30_', '20_', '10_']);
      expect(await rows(page).count()).toBe(1);
      check();
      await close();
    });

    it('a typed part of a name finds all names with it', async () => {
      const { page, check, close } = await show('decisions');
      const input = page.getByLabel('Signature', { exact: true });
      await input.fill('instruction_rec');
      await input.press('Enter');
      await expect.poll(() => page.url(), POLL).toContain('signature=*instruction_rec*');
      await rows(page).first().waitFor();
      // The browser completes names of recent traffic.
      const option = page.locator(`datalist#known-signature option[value="${SIGNATURE}"]`);
      await option.waitFor({ state: 'attached' });
      check();
      await close();
    });

    it.each([
      ['x-hedgerow-request-id: ID', 'a header line'],
      ['  "x-request-id": "ID", ', 'a quoted member'],
      ['request-id=ID', 'a pair'],
    ])('%s is understood', async (pattern) => {
      const { page, check, close } = await show('decisions');
      const input = page.getByLabel('Request id', { exact: true });
      await input.fill(pattern.replace('ID', shadowId));
      await input.press('Enter');
      await page.locator(`[id="decision-${shadowId}"]`).waitFor();
      await expect.poll(() => rows(page).count(), POLL).toBe(1);
      check();
      await close();
    });

    it('a list says how many decisions match, are kept and were counted', async () => {
      const { account } = await storedDecision(shadowId);
      const { page, check, close } = await show(`decisions?account=${account}`);
      await page.getByText(/^1 match; sample: [\d,]+ kept of [\d,]+ counted/).waitFor();
      check();
      await close();
    });
  });

  it('sorts decisions by a column, and screen readers get the order', async () => {
    const { page, check, close } = await show('decisions');
    const header = page.getByRole('columnheader', { name: 'Score' });
    const scores = async () => {
      const texts = await page.locator('table.decisions td:nth-child(3)').allInnerTexts();
      return texts.filter((text) => text !== '–').map(Number);
    };
    await rows(page).first().waitFor();
    for (const [direction, sign] of [
      ['descending', -1],
      ['ascending', 1],
    ] as const) {
      await header.getByRole('button').click();
      await expect.poll(() => header.getAttribute('aria-sort'), POLL).toBe(direction);
      const sorted = await scores();
      expect(sorted.length).toBeGreaterThan(2);
      expect(sorted).toEqual(sorted.toSorted((a, b) => sign * (a - b)));
    }
    const sortedHeaders = page.locator('table.decisions th[aria-sort]');
    expect(await sortedHeaders.count()).toBe(1);
    await expectAccessible(page);
    check();
    await close();
  });

  it('sees the clusters with the most gravity first', async () => {
    const { page, check, close } = await show('clusters');
    await page.locator('table.clusters tbody tr').first().waitFor();
    const gravities = async () => {
      const texts = await page.locator('table.clusters td:nth-child(2)').allInnerTexts();
      return texts.map(Number);
    };
    const before = await gravities();
    expect(before).toEqual(before.toSorted((a, b) => b - a));
    const header = page.getByRole('columnheader', { name: 'Gravity' });
    expect(await header.getAttribute('aria-sort')).toBe('descending');
    await header.getByRole('button').click();
    await expect.poll(() => header.getAttribute('aria-sort'), POLL).toBe('ascending');
    const after = await gravities();
    expect(after).toEqual(after.toSorted((a, b) => a - b));
    check();
    await close();
  });

  it('reads clusters as cards on a narrow screen', async () => {
    const viewport = { width: 720, height: 800 };
    const { page, check, close } = await show('clusters', { viewport });
    const row = page.locator('table.clusters tbody tr').first();
    const style = (cell: string) =>
      row.locator(cell).evaluate((element) => {
        const { whiteSpace, minWidth } = getComputedStyle(element);
        return [whiteSpace, minWidth];
      });
    await row.waitFor();
    for (const cell of ['td:nth-child(3)', 'td.bands']) {
      expect(await style(cell)).toEqual(['normal', '0px']);
    }
    check();
    await close();
  });

  it('steps through decisions with j and k, but not while typing', async () => {
    const { page, check, close } = await show('decisions');
    await rows(page).nth(2).waitFor();
    const ids = await page
      .locator('table.decisions tbody a[id]')
      .evaluateAll((links) => links.map(({ id }) => id.replace('decision-', '')));
    const expectOpen = (id: string) => expect.poll(() => page.url(), POLL).toContain(`open=${id}`);
    await page.keyboard.press('j');
    await expectOpen(ids[0]!);
    await page.keyboard.press('j');
    await expectOpen(ids[1]!);
    // The panel has the focus, and its head names account, model and id.
    const key = page.locator('.detail-key');
    await expect.poll(() => key.innerText(), POLL).toContain(ids[1]);
    await page.keyboard.press('k');
    await expectOpen(ids[0]!);
    await page.getByRole('button', { name: 'Next', exact: true }).click();
    await expectOpen(ids[1]!);
    await page.getByLabel('Model', { exact: true }).focus();
    await page.keyboard.type('jj');
    for (let typed = 0; typed < 2; typed++) await page.keyboard.press('Backspace');
    // If the typed letters had opened other decisions, this key would open a later one.
    await page.locator('.detail h2').focus();
    await page.keyboard.press('j');
    await expectOpen(ids[2]!);
    check();
    await close();
  });

  it('can list the shortcuts, and switch single keys off', async () => {
    const { page, check, close } = await show('decisions');
    await rows(page).first().waitFor();
    await page.keyboard.press('?');
    const dialog = page.getByRole('dialog', { name: 'Keyboard shortcuts' });
    await dialog.getByText('Open the next decision of the list').waitFor();
    await expectAccessible(page);
    await dialog.getByLabel('Use shortcuts of a single character').uncheck();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await page.keyboard.press('?');
    await page.keyboard.press('j');
    // If a key had opened the dialog, it would cover this button.
    await page.getByRole('button', { name: 'Shortcuts', exact: true }).click();
    await dialog.getByLabel('Use shortcuts of a single character').check();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect(page.url()).not.toContain('open=');
    await page.keyboard.press('j');
    await expect.poll(() => page.url(), POLL).toContain('open=');
    check();
    await close();
  });

  it('keeps account, model and id in view while the panel scrolls', async () => {
    const viewport = { width: 1440, height: 500 };
    const { page, detail, check, close } = await showDecision(shadowId, { viewport });
    await detail.evaluate((panel) => (panel.scrollTop = panel.scrollHeight));
    await expect.poll(() => detail.evaluate((panel) => panel.scrollTop), POLL).toBeGreaterThan(0);
    const key = page.locator('.detail-key');
    const top = (locator: Locator) => locator.evaluate((one) => one.getBoundingClientRect().top);
    expect(await top(key)).toBeGreaterThanOrEqual(await top(detail));
    for (const part of ['demo-large', shadowId]) expect(await key.innerText()).toContain(part);
    check();
    await close();
  });

  it('reads the false positives of a rule next to its hit, and opens the rule', async () => {
    const { page, detail, check, close } = await showDecision(shadowId);
    const hit = detail.getByRole('listitem').filter({ hasText: SIGNATURE }).first();
    await hit.getByText('Description and false positives').click();
    await hit.getByText('Developers who ask for a sample row of a public dataset').waitFor();
    await expectAccessible(page);
    await hit.getByRole('link', { name: SIGNATURE }).click();
    const name = 'synthesis/instruction_records.yml';
    await page.getByRole('region', { name, exact: true }).waitFor();
    check();
    await close();
  });

  it('copies an explanation for the customer without what helps to evade', async () => {
    const { account } = await storedDecision(refusedId);
    const { page, check, close } = await showDecision(refusedId);
    const text = await copy(page, 'Copy explanation', /refused/);
    expect(text).toContain(refusedId);
    expect(text).toMatch(/^Time: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
    expect(text).toMatch(/To appeal/);
    expect(text).not.toMatch(/synthesis|\d dB|hostile|suspect|score|threshold|hedgerow\.prompt/i);
    expect(text).not.toContain(account);
    check();
    await close();
  });

  it('copies a link that opens the decision again', async () => {
    const { page, check, close } = await showDecision(shadowId);
    const address = await copy(page, 'Copy link', new RegExp(`open=${shadowId}`));
    const other = await open(browser, address, { token: READ });
    await other.page.locator('.detail-key').getByText(shadowId).waitFor();
    other.check();
    await other.close();
    check();
    await close();
  });

  it('reads in shadow what would be done', async () => {
    const { page, detail, check, close } = await showDecision(shadowId);
    const expected = /the request would be (degraded|refused)/;
    await expect.poll(() => detail.innerText(), POLL).toMatch(expected);
    await page.goto(at(`decisions?id=${refusedId}`));
    const row = rows(page).filter({ hasText: refusedId.slice(-8) });
    await expect.poll(() => row.innerText(), POLL).toMatch(/refused/);
    expect(await row.innerText()).not.toMatch(/would be/);
    check();
    await close();
  });

  it('drafts an exemption for the account of a decision', async () => {
    const { account } = await storedDecision(shadowId);
    const { page, detail, check, close } = await showDecision(shadowId);
    await detail.getByRole('button', { name: 'Exempt…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel(/^Reason/).fill('a partner; ticket 4711');
    const entry = () => dialog.locator('pre').first().innerText();
    await expect.poll(entry, POLL).toContain(`name = "account-${account.slice(0, 12)}"`);
    await expect.poll(entry, POLL).toContain(`account = "${account}"`);
    expect(await entry()).not.toContain('signatures');
    await dialog.getByLabel(/Only ignore the/).check();
    await expect.poll(entry, POLL).toContain(`"${SIGNATURE}"`);
    await expectAccessible(page);
    check();
    await close();
  });

  it('sees the effect of another weight on scores and requests', async () => {
    // The only hit of its family. The other families are capped, so a weight may change nothing.
    const name = 'elicitation_for_student_model';
    const { page, detail, check, close } = await showDecision(shadowId);
    const hit = detail.getByRole('listitem').filter({ hasText: name }).first();
    await hit.getByRole('button', { name: 'Change its weight…' }).click();
    const dialog = page.getByRole('dialog', { name: `Weight of ${name}` });
    await dialog.getByLabel(/^Weight in dB/).fill('-40');
    await expect
      .poll(() => dialog.locator('pre').first().innerText(), POLL)
      .toContain(`name = "${name}"\nweight = -40.0`);
    await dialog.getByText(/Score of this decision/).waitFor();
    await dialog.getByRole('region', { name: 'Shifts of scores' }).waitFor();
    const changed = dialog.getByRole('region', { name: 'Changed requests' });
    await changed.getByRole('link').first().waitFor();
    await expectAccessible(page);
    // Escape closes only the dialog.
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    expect(await detail.count()).toBe(1);
    check();
    await close();
  });

  it('replays exported decisions as they were decided', async () => {
    const { decisions } = await admin.getOk('/decisions?band=hostile&limit=20');
    const lines = decisions.map((decision: object) => `${JSON.stringify(decision)}\n`);
    const file = path.join(ARTIFACTS, 'decisions.ndjson');
    writeFileSync(file, lines.join(''));
    const { page, check, close } = await show('playground');
    const replay = page.getByRole('region', { name: 'Replay' });
    await replay.waitFor();
    await page.locator('input[type=file]').last().setInputFiles(file);
    await replay.getByText(`${decisions.length} lines are decisions`).waitFor();
    await expect.poll(() => replay.innerText(), POLL).toMatch(/0 are unreadable/);
    await page.getByLabel(/^Raw HTTP request/).fill(lines[0]);
    await page.getByRole('alert').getByText('This is a decision').waitFor();
    check();
    await close();
  });

  it('reads in the rules view that a rule is unknown', async () => {
    const { page, check, close } = await show('rules?rule=synthesis_no_such_rule');
    await page.getByRole('alert').getByText('synthesis_no_such_rule').waitFor();
    check();
    await close();
  });

  describe('when something fails', () => {
    afterEach(() => fleet.setFaults({ ledger: null }));

    it('reads plain words, and not “live”', async () => {
      const { page, check, close } = await show('decisions');
      await page.getByText('live', { exact: true }).waitFor();
      await fleet.setFaults({ ledger: 'throw' });
      await page.getByText('failing', { exact: true }).waitFor();
      expect(await page.getByText('live', { exact: true }).count()).toBe(0);
      await expect.poll(() => main(page), POLL).toMatch(/counts the requests \(the ledger\)/);
      await expect.poll(() => main(page), POLL).toMatch(/this page tries again/);
      await fleet.setFaults({ ledger: null });
      await page.getByText('failing', { exact: true }).waitFor({ state: 'detached' });
      check(REFUSED);
      await close();
    });

    it('reads “live” again after a failure of a request that does not repeat', async () => {
      const { page, check, close } = await show('decisions');
      await rows(page).first().waitFor();
      const fail = (route: Route) => route.fulfill({ status: 503, json: {} });
      await page.route(/\/v1\/clusters/, fail);
      await page.route(/\/v1\/decisions/, fail);
      // The names to complete are loaded once, with the clusters among them.
      const answer = page.waitForResponse(/\/v1\/clusters/);
      await page.getByLabel('Signature', { exact: true }).focus();
      await answer;
      await page.getByText('failing', { exact: true }).waitFor();
      // The list repeats its request.
      await page.unroute(/\/v1\/decisions/);
      await page.getByText('live', { exact: true }).waitFor();
      check(REFUSED);
      await close();
    });

    it('reads that the device is offline', async () => {
      const { page, check, close } = await show('decisions');
      await rows(page).first().waitFor();
      await page.context().setOffline(true);
      await page.getByText(/This device is offline/).first().waitFor();
      await page.context().setOffline(false);
      check(REFUSED);
      await close();
    });

    it('reads that a token is wrong, without words for programs', async () => {
      const { page, check, close } = await open(browser, at('decisions'));
      await page.getByLabel('Token', { exact: true }).fill('wrong-token-of-the-tests');
      await page.getByRole('button', { name: 'Open' }).click();
      const alert = page.getByRole('alert');
      await expect.poll(() => alert.innerText(), POLL).toMatch(/This token is not accepted/);
      expect(await alert.innerText()).not.toMatch(/Bearer|Authorization/);
      await loaded(page);
      check(REFUSED);
      await close();
    });
  });
});
