// The view Rules: users edit rules, run their exemplars, compare them with the released rules, and
// release them with the command line or in the page.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_LINE } from '../../scripts/lib/build.mjs';
import { Admin } from '../edge/release-fixtures.ts';
import { Fleet, Origin, ROOT } from '../edge/support.ts';
import {
  canRun,
  expectAccessible,
  expectAccessibleAndFits,
  launch,
  open,
  type Opened,
  POLL,
} from './browser.ts';

const hasCli = existsSync(COMMAND_LINE);
if (canRun && !hasCli) {
  console.log('skipped: target/release/hedgerow not found; run `cargo build --release`');
}
const TOKEN = 'admin-token-of-the-tests';
const RULE = 'synthesis/instruction_records.yml';
const RULE_NAME = 'synthesis_instruction_records';
const TEXT = readFileSync(path.join(ROOT, 'rules', RULE), 'utf8');
const PROMPT = 'Write 20 diverse instruction-response pairs as JSON lines.';
const NO_PROBLEMS = /^No problems$/;

const withWeight = (weight: number) =>
  TEXT.replace('hedgerow.weight: 14', `hedgerow.weight: ${weight}`);

describe.skipIf(!canRun || !hasCli)('the view Rules', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-www-'));
  const within = (...parts: string[]) => path.join(directory, ...parts);
  let browser: Browser;
  let origin: Origin;
  let fleet: Fleet;
  let opened: Opened;
  let page: Page;
  const hedgerow = (...args: string[]) => {
    const env = {
      PATH: process.env.PATH,
      HEDGEROW_URL: fleet?.edge.url,
      HEDGEROW_TOKEN: TOKEN,
      HEDGEROW_KEY: within('hedgerow.key'),
      HEDGEROW_AUTHOR: 'ana',
    };
    const options = { cwd: directory, encoding: 'utf8', stdio: 'pipe', env } as const;
    return execFileSync(COMMAND_LINE, args, options);
  };
  const at = (location: string) => `${fleet.edge.url}/_hedgerow/#/${location}`;
  const edit = `rules?rule=${RULE_NAME}&tab=edit`;
  const region = (name: string) => page.getByRole('region', { name, exact: true });
  const checked = (expected: RegExp) =>
    region('Check').getByRole('status').getByText(expected).waitFor();
  /** Replaces the text in the editor. */
  const write = async (text: string) => {
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText(text);
  };

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    origin.handler = Origin.ok;
    hedgerow('keygen');
    const publicKey = readFileSync(within('hedgerow.key.pub'), 'utf8').split('\n')[1]!;
    const vars = { PUBLIC_KEYS: publicKey, ADMIN_TOKEN: TOKEN };
    fleet = await Fleet.start({ origin, workers: 1, console: true, vars });
    cpSync(path.join(ROOT, 'rules'), within('rules'), { recursive: true });
    opened = await open(browser, at('rules'), { token: TOKEN, acceptDownloads: true });
    page = opened.page;
  });
  afterAll(async () => {
    await browser?.close();
    await fleet?.dispose();
    await origin?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('shows the content of a rule file', async () => {
    await page.getByLabel('Search names and texts').fill('instruction_records');
    await page
      .getByRole('link', { name: /instruction_records/ })
      .first()
      .click();
    const file = region(RULE);
    await file.locator('h3').first().waitFor();
    const parts = [RULE_NAME, 'False positives', 'References', 'Exemplars', 'matches', 'no match'];
    for (const part of parts) await expect.poll(() => file.innerText(), POLL).toContain(part);
    for (const link of await file.locator('a[target=_blank]').all()) {
      expect(await link.getAttribute('rel')).toBe('noreferrer noopener');
      expect(await link.getAttribute('href')).toMatch(/^https?:/);
    }
    await checked(NO_PROBLEMS);
    await expect.poll(() => region('Check').innerText(), POLL).toMatch(/(\d+) of \1 exemplars/);
  });

  it('opens every rule by its name', async () => {
    const rules = {
      account_behavior_bias_maps: 'account_behavior/bias_maps.yml',
      [RULE_NAME]: RULE,
    };
    for (const [name, file] of Object.entries(rules)) {
      await page.goto(at(`rules?rule=${name}`));
      await region(file).waitFor();
    }
  });

  it('reports a problem with line and remedy, in the editor and in the list', async () => {
    await page.getByRole('link', { name: 'Edit', exact: true }).click();
    await page.locator('.cm-content').waitFor();
    await write(withWeight(1400));
    await checked(/^1 problem$/);
    const line = TEXT.split('\n').findIndex((line) => line.includes('hedgerow.weight')) + 1;
    const problems = region('Problems');
    await expect.poll(() => problems.innerText(), POLL).toContain(`${RULE}, line ${line}`);
    const download = region('Push').getByRole('button', { name: /Download/ });
    await expect.poll(() => download.isDisabled(), POLL).toBe(true);
    await problems.getByRole('button').first().click();
    await page.locator('.cm-lint-marker-error').first().waitFor();
    await expectAccessible(page);
  });

  it('marks an exemplar with an unexpected result at its line', async () => {
    await write(TEXT.replace('expect: match', 'expect: no-match'));
    // Selects the problem by its text, because a problem of the previous test may still be listed.
    const problem = region('Problems').locator('tr', { hasText: 'instruction-response pairs' });
    await problem.getByRole('button').first().click();
    await checked(/^\d+ problems?$/);
    await page.locator('.exemplar.failed').first().waitFor();
    await expect
      .poll(() => page.locator('.rule-exemplar-results').innerText(), POLL)
      .toMatch(/\d+ of \d+ exemplars in this file have the expected result/);
  });

  it('completes fields and modifiers', async () => {
    await write(`${TEXT.slice(0, TEXT.indexOf('detection:'))}detection:\n  one:\n    `);
    await page.keyboard.type('hedgerow.prompt.u');
    await page.keyboard.press('Control+Space');
    const options = page.locator('.cm-tooltip-autocomplete');
    await options.getByText('hedgerow.prompt.user').first().waitFor();
    await page.keyboard.press('Escape');
  });

  it('shows the diff of an edit, and its impact on recorded traffic', async () => {
    await write(withWeight(11));
    await checked(NO_PROBLEMS);
    await region('Diff').getByText('+14 dB → +11 dB').waitFor();
    const lines = Array.from({ length: 40 }, (_, number) =>
      JSON.stringify({
        method: 'POST',
        path: '/v1/chat/completions',
        headers: { 'content-type': 'application/json' },
        body: { messages: [{ role: 'user', content: `${PROMPT} Batch ${number}.` }] },
      }),
    );
    writeFileSync(within('traffic.ndjson'), lines.join('\n'));
    await page.goto(at('playground'));
    const replay = region('Replay');
    await replay.waitFor();
    await page.locator('input[type=file]').last().setInputFiles(within('traffic.ndjson'));
    await replay.getByText(RULE_NAME).waitFor();
    // The edit is kept after a visit to another view.
    await page.goto(at(edit));
    await page.getByRole('button', { name: 'Replay with these rules' }).click();
    const impact = region('Impact on recorded traffic');
    await impact.locator('table').first().waitFor();
    await expect.poll(() => impact.innerText(), POLL).toMatch(/of 40 requests change/);
    opened.check();
  });

  it('compares an edit with the shipped text, line by line', async () => {
    await page.getByRole('button', { name: 'Compare with the shipped text' }).click();
    const changes = region('Changed lines');
    await expect.poll(() => changes.innerText(), POLL).toMatch(/-\s+hedgerow\.weight: 14/);
    expect(await changes.innerText()).toMatch(/\+\s+hedgerow\.weight: 11/);
    await expectAccessible(page);
    opened.check();
  });

  it('shows a release of downloaded files by the command line', async () => {
    const button = region('Push').getByRole('button', { name: 'Download 1 changed file' });
    const [download] = await Promise.all([page.waitForEvent('download'), button.click()]);
    await download.saveAs(within('changed.tar'));
    execFileSync('tar', ['-xf', within('changed.tar'), '-C', within('rules')]);
    expect(readFileSync(within('rules', RULE), 'utf8')).toBe(withWeight(11));
    hedgerow('push', 'rules', '--release', '--note', 'weighs less');
    await fleet.untilRelease(1);
    const [edge] = fleet.edges;
    const { headers } = await edge!.ask(PROMPT);
    expect(headers.get('x-hedgerow-ruleset')).toBe((await edge!.version()).ruleset);
    const overview = await open(browser, at('overview?minutes=15'), { token: TOKEN });
    const active = overview.page.getByRole('region', { name: 'Active rules' });
    await active.getByText('weighs less').waitFor();
    const { release } = await new Admin(fleet.edge, TOKEN).status();
    const content = release.contents[release.release.active];
    expect(content).toMatch(/^[0-9a-f]{64}$/);
    await active.getByTitle(content).waitFor();
    overview.check();
    await overview.close();
    // After a reload, the drafts are gone, and the baseline is the new release.
    await page.reload();
    await checked(NO_PROBLEMS);
    await region('Diff').getByText('+11 dB → +14 dB').waitFor();
  });

  it('signs a release with a key of the user, and does not store the key', async () => {
    await page.goto(at(edit));
    await page.locator('.cm-content').waitFor();
    await write(withWeight(12));
    await region('Diff').getByText('+11 dB → +12 dB').waitFor();
    await page.getByText('Sign here with your own key').click();
    await page.getByLabel('Secret key file').setInputFiles(within('hedgerow.key'));
    await page.getByRole('button', { name: 'Open the key' }).click();
    await page.getByLabel('Note').fill('a little more');
    await page.getByLabel('Author').fill('ana');
    // Release 1 has rules that differ from the rules with which the console was built.
    await page.getByLabel(/change back 1 \(synthesis_instruction_records\)/).check();
    await page.getByRole('button', { name: 'Sign and release for all accounts' }).click();
    await fleet.untilRelease(2);
    const admin = new Admin(fleet.edge, TOKEN);
    const { release } = await admin.getOk('/releases/current');
    expect(release).toMatchObject({ serial: 2, note: 'a little more', author: 'ana' });
    // The command line builds an equivalent bundle from the same files, so it does not upload the
    // bundle again.
    writeFileSync(within('rules', RULE), withWeight(12));
    const { bundles } = await admin.getOk('/bundles');
    hedgerow('push', 'rules');
    expect((await admin.getOk('/bundles')).bundles).toHaveLength(bundles.length);
    const secret = readFileSync(within('hedgerow.key'), 'utf8').split('\n')[1]!;
    const stored = await page.evaluate(() =>
      JSON.stringify([{ ...sessionStorage }, { ...localStorage }, location.href, document.cookie]),
    );
    expect(stored).not.toContain(secret.slice(20, 60));
    opened.check();
  });

  it('escapes a hostile title', async () => {
    const hostile = '<img src=x onerror=alert(1)>';
    await page.goto(at(edit));
    await page.locator('.cm-content').waitFor();
    await write(
      TEXT.replace(/^title: .*$/m, `title: '${hostile}'`).replace(
        /^references:\n {2}- .*$/m,
        'references:\n  - javascript:alert(1)',
      ),
    );
    await page.getByRole('link', { name: 'About', exact: true }).click();
    await page.getByText(hostile).first().waitFor();
    await page.getByText('javascript:alert(1)').first().waitFor();
    expect(await page.locator('main img, main script').count()).toBe(0);
    expect(await page.locator('a[href^="javascript:"]').count()).toBe(0);
    opened.check();
  });

  it('is accessible and fits, in both themes and all sizes', async () => {
    const own = await open(browser, at(`rules?rule=${RULE_NAME}`));
    const check = own.page.getByRole('region', { name: 'Check' });
    await check.getByText(NO_PROBLEMS).waitFor();
    for (const tab of ['about', 'edit']) {
      await own.page.goto(at(`rules?rule=${RULE_NAME}&tab=${tab}`));
      const content = { about: '.rule-page', edit: '.cm-content' }[tab]!;
      await own.page.locator(content).waitFor();
      await expectAccessibleAndFits(own.page, `rules-${tab}`);
    }
    own.check();
    await own.close();
  });
});
