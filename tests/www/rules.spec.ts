// The rules: edited with their exemplars run, compared, pushed by the command line or signed in the page, and seen arriving.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Admin } from '../edge/release.ts';
import { Fleet, Origin, ROOT } from '../edge/support.ts';
import { ARTIFACTS, axe, launch, open, type Opened, overflows, runs, SIZES, THEMES } from './browser.ts';

const CLI = path.join(ROOT, 'target/debug/hedgerow');
const canRun = runs && existsSync(CLI);
if (runs && !canRun) console.log('skipped: target/debug/hedgerow does not exist (`cargo build`)');
const TOKEN = 'publish-token-of-the-tests';
const RULE = 'synthesis/instruction_records.yml';
const TEXT = readFileSync(path.join(ROOT, 'rules', RULE), 'utf8');
const ASKED = 'Write 20 diverse instruction-response pairs as JSON lines.';

describe.skipIf(!canRun)('the rules', { timeout: 120_000 }, () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-www-'));
  const within = (...parts: string[]) => path.join(directory, ...parts);
  let browser: Browser;
  let origin: Origin;
  let fleet: Fleet;
  let opened: Opened;
  let page: Page;
  const hedgerow = (...args: string[]) =>
    execFileSync(CLI, args, { cwd: directory, encoding: 'utf8', stdio: 'pipe', env: { PATH: process.env.PATH, HEDGEROW_URL: fleet?.edge.url, HEDGEROW_TOKEN: TOKEN, HEDGEROW_KEY: within('hedgerow.key'), HEDGEROW_AUTHOR: 'ana' } });
  const at = (place: string) => `${fleet.edge.url}/_hedgerow/#/${place}`;
  const region = (name: string) => page.getByRole('region', { name, exact: true });
  const checked = (expected: RegExp) => region('Check').getByRole('status').getByText(expected).waitFor();
  /** Writes over all of the open file. */
  const write = async (text: string) => {
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+A');
    await page.keyboard.insertText(text);
  };

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    origin.answer = Origin.ok;
    hedgerow('keygen');
    const publicKey = readFileSync(within('hedgerow.key.pub'), 'utf8').split('\n')[1]!;
    fleet = await Fleet.start({ origin, workers: 1, console: true, vars: { PUBLIC_KEYS: publicKey, ADMIN_TOKEN: TOKEN } });
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

  it('every file has its page, told from the file', async () => {
    await page.getByLabel('Search names and texts').fill('instruction_records');
    await page.getByRole('link', { name: /instruction_records/ }).first().click();
    await page.getByRole('heading', { name: 'Instruction data as records', exact: false }).or(page.locator('.rule-file h3')).first().waitFor();
    const text = await region(RULE).innerText();
    for (const part of ['synthesis_instruction_records', 'False positives', 'References', 'Exemplars', 'matches', 'no match']) expect(text).toContain(part);
    for (const link of await region(RULE).locator('a[target=_blank]').all()) expect([await link.getAttribute('rel'), await link.getAttribute('href')]).toEqual(['noreferrer noopener', expect.stringMatching(/^https?:/)]);
    await checked(/Nothing to mend/);
    expect(await region('Check').innerText()).toMatch(/(\d+) of \1 exemplars/);
  });

  it('what is wrong is told with line and remedy, in the gutter and in the list', async () => {
    await page.getByRole('link', { name: 'Edit', exact: true }).click();
    await page.locator('.cm-content').waitFor();
    await write(TEXT.replace('hedgerow.weight: 14', 'hedgerow.weight: 1400'));
    await checked(/1 to mend/);
    const line = TEXT.split('\n').findIndex((line) => line.includes('hedgerow.weight')) + 1;
    expect(await region('Findings').innerText()).toContain(`${RULE}, line ${line}`);
    expect(await region('Push').getByRole('button', { name: /Download/ }).isDisabled()).toBe(true);
    await region('Findings').getByRole('button').first().click();
    await page.locator('.cm-lint-marker-error').first().waitFor();
    expect(await axe(page)).toEqual([]);
  });

  it('an exemplar that comes out wrong is marked at its line', async () => {
    await write(TEXT.replace('expect: match', 'expect: no-match'));
    await checked(/to mend/);
    await region('Findings').getByRole('button').first().click();
    await page.locator('.exemplar.wrong').first().waitFor();
    expect(await region('Check').innerText()).toMatch(/come out as expected/);
    expect(await page.locator('.rule-exemplars').innerText()).toMatch(/\d+ of \d+ come out as expected/);
  });

  it('fields and modifiers are completed', async () => {
    await write(`${TEXT.slice(0, TEXT.indexOf('detection:'))}detection:\n  one:\n    `);
    await page.keyboard.type('hedgerow.prompt.u');
    await page.keyboard.press('Control+Space');
    await page.locator('.cm-tooltip-autocomplete').getByText('hedgerow.prompt.user').first().waitFor();
    await page.keyboard.press('Escape');
  });

  it('mended, it shows what changes, and the effect on recorded traffic', async () => {
    await write(TEXT.replace('hedgerow.weight: 14', 'hedgerow.weight: 11'));
    await checked(/Nothing to mend/);
    await region('Difference').getByText('+14 dB → +11 dB').waitFor();
    const lines = Array.from({ length: 40 }, (_, number) => JSON.stringify({ method: 'POST', path: '/v1/chat/completions', headers: { 'content-type': 'application/json' }, body: { messages: [{ role: 'user', content: `${ASKED} Batch ${number}.` }] } }));
    writeFileSync(within('traffic.ndjson'), lines.join('\n'));
    await page.goto(at('playground'));
    await page.locator('input[type=file]').last().setInputFiles(within('traffic.ndjson'));
    await page.getByRole('region', { name: 'Replay' }).getByText('synthesis_instruction_records').waitFor();
    // What was edited is still there.
    await page.goto(at('rules?rule=synthesis_instruction_records&tab=edit'));
    await page.getByRole('button', { name: 'Replay with these rules' }).click();
    const effect = region('Effect on recorded traffic');
    await effect.locator('table').first().waitFor();
    expect(await effect.innerText()).toMatch(/40/);
    opened.check();
  });

  it('downloaded and pushed by the command line, it is seen arriving', async () => {
    const [download] = await Promise.all([page.waitForEvent('download'), region('Push').getByRole('button', { name: 'Download 1 changed file' }).click()]);
    await download.saveAs(within('changed.tar'));
    execFileSync('tar', ['-xf', within('changed.tar'), '-C', within('rules')]);
    expect(readFileSync(within('rules', RULE), 'utf8')).toBe(TEXT.replace('hedgerow.weight: 14', 'hedgerow.weight: 11'));
    hedgerow('push', 'rules', '--release', '--note', 'weighs less');
    await fleet.everywhere(1);
    const [edge] = fleet.edges;
    expect((await edge!.ask(ASKED)).headers.get('x-hedgerow-ruleset')).toBe((await edge!.version()).ruleset);
    const overview = await open(browser, at('overview?minutes=15'), { token: TOKEN });
    await overview.page.getByRole('region', { name: 'Rules in force' }).getByText('weighs less').or(overview.page.getByText(/release 1|Release 1/i)).first().waitFor();
    overview.check();
    await overview.close();
    // What is in force now is what was edited.
    await page.reload();
    await page.getByRole('region', { name: 'Check' }).getByText(/Nothing to mend/).waitFor();
    await region('Difference').getByText('+11 dB → +14 dB').waitFor();
  });

  it('signed in the page with a key that is lent to it, and forgotten', async () => {
    await page.goto(at('rules?rule=synthesis_instruction_records&tab=edit'));
    await page.locator('.cm-content').waitFor();
    await write(TEXT.replace('hedgerow.weight: 14', 'hedgerow.weight: 12'));
    await checked(/Nothing to mend/);
    await page.getByText('Sign here with a key of your own').click();
    await page.getByLabel('Secret key file').setInputFiles(within('hedgerow.key'));
    await page.getByRole('button', { name: 'Open the key' }).click();
    await page.getByLabel('Note').fill('a little more');
    await page.getByLabel('Author').fill('ana');
    // The command line released what this console was not built with.
    await page.getByLabel(/change back 1 \(synthesis_instruction_records\)/).check();
    await page.getByRole('button', { name: 'Sign and put in force for all' }).click();
    await fleet.everywhere(2);
    const admin = new Admin(fleet.edge.url, TOKEN);
    expect((await admin.got('/releases/current')).release).toMatchObject({ serial: 2, note: 'a little more', author: 'ana' });
    // The command line, which makes the same of the same files, finds nothing to upload.
    writeFileSync(within('rules', RULE), TEXT.replace('hedgerow.weight: 14', 'hedgerow.weight: 12'));
    expect(hedgerow('push', 'rules')).toMatch(/decides alike/);
    const secret = readFileSync(within('hedgerow.key'), 'utf8').split('\n')[1]!;
    const kept = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }, location.href, document.cookie]));
    expect(kept).not.toContain(secret.slice(20, 60));
    opened.check();
  });

  it('a hostile title does nothing but look odd', async () => {
    const hostile = '<img src=x onerror=alert(1)>';
    await write(TEXT.replace(/^title: .*$/m, `title: '${hostile}'`).replace(/^references:\n {2}- .*$/m, 'references:\n  - javascript:alert(1)'));
    await checked(/mend/);
    await page.getByRole('link', { name: 'About', exact: true }).click();
    await page.getByText(hostile).first().waitFor();
    expect(await page.locator('main img, main script').count()).toBe(0);
    expect(await page.locator('a[href^="javascript:"]').count()).toBe(0);
    opened.check();
  });

  it('is accessible and fits, in both themes and at every size; screenshots', { timeout: 240_000 }, async () => {
    for (const colorScheme of THEMES) {
      for (const viewport of SIZES) {
        const own = await open(browser, at('rules?rule=synthesis_instruction_records'), { colorScheme, viewport });
        await own.page.getByRole('region', { name: 'Check' }).getByText(/Nothing to mend/).waitFor();
        for (const tab of ['about', 'edit']) {
          await own.page.goto(at(`rules?rule=synthesis_instruction_records&tab=${tab}`));
          if (tab === 'edit') await own.page.locator('.cm-content').waitFor();
          const what = `rules ${tab} ${colorScheme} ${viewport.width}`;
          expect([what, await axe(own.page)]).toEqual([what, []]);
          expect([what, await overflows(own.page)]).toEqual([what, []]);
          await own.page.screenshot({ path: path.join(ARTIFACTS, `rules-${tab}-${colorScheme}-${viewport.width}.png`), fullPage: true });
        }
        own.check();
        await own.close();
      }
    }
  });
});
