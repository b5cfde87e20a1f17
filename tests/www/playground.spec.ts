// The playground: the same core as at the edge, in the browser, offline once it is loaded; and nothing of what is pasted leaves.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Filter, fixtures, Origin, ROOT, sendFixture } from '../edge/support.ts';
import { score as shown } from '../../www/src/format.ts';
import { ARTIFACTS, axe, launch, open, type Opened, overflows, runs, SIZES, THEMES } from './browser.ts';

const CLI = path.join(ROOT, 'target/debug/hedgerow');
const box = 'Raw HTTP request, curl command, HAR entry, or JSON body';

describe.skipIf(!runs)('the playground', () => {
  let browser: Browser;
  let origin: Origin;
  let filter: Filter;
  let opened: Opened;
  const url = () => `${filter.url}/_hedgerow/#/playground`;
  const fill = async (text: string) => {
    // Another result is awaited than the one that is there.
    await opened.page.getByLabel(box).fill('');
    await opened.page.getByRole('button', { name: 'An ordinary question' }).or(opened.page.locator('ul.examples')).first().waitFor();
    await opened.page.getByLabel(box).fill(text);
  };
  const score = () => opened.page.locator('.waterfall .score').innerText();

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    filter = await Filter.start({ origin, console: true });
    opened = await open(browser, url());
    await opened.page.locator('ul.examples').waitFor();
  });
  afterAll(async () => {
    await browser?.close();
    await filter?.dispose();
    await origin?.close();
  });

  it('scores every fixture as the Worker and the command line do', { timeout: 120_000 }, async () => {
    for (const fixture of fixtures()) {
      const file = path.join(ROOT, 'tests/fixtures/requests', `${fixture.name}.http`);
      // A text box knows line feeds only; so shall the others.
      const text = readFileSync(file, 'utf8').replaceAll('\r\n', '\n');
      await fill(text);
      // Each by an account of its own: what several ask together is not the playground's matter.
      const own = Object.keys(fixture.headers).filter((name) => /^(authorization|x-api-key|api-key|x-goog-api-key)$/.test(name));
      const headers = { ...fixture.headers, ...Object.fromEntries(own.map((name) => [name, `Bearer sk-${fixture.name}`])) };
      const answer = await sendFixture(filter, { ...fixture, headers, body: Buffer.from(text.slice(text.indexOf('\n\n') + 2)) });
      const atEdge = answer.headers['x-hedgerow-score'];
      if (atEdge === undefined) {
        await opened.page.getByText('Not an LLM call').waitFor();
        continue;
      }
      await opened.page.locator('.waterfall .score').waitFor();
      const hits = String(answer.headers['x-hedgerow-hits']).split(',').filter(Boolean).sort();
      expect([fixture.name, (await opened.page.locator('.waterfall .step-hit th').allInnerTexts()).sort()]).toEqual([fixture.name, hits]);
      expect([fixture.name, await score()]).toEqual([fixture.name, shown(Number(atEdge))]);
      if (!existsSync(CLI)) continue;
      const copy = path.join(ARTIFACTS, 'fixture.http');
      writeFileSync(copy, text);
      const { decision } = JSON.parse(execFileSync(CLI, ['--format', 'json', 'score', copy], { cwd: ROOT, encoding: 'utf8' }));
      expect([fixture.name, shown(decision.score)]).toEqual([fixture.name, await score()]);
    }
    opened.check();
  });

  it('marks what was found, and shows which conditions hold', async () => {
    await fill(JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'Zwölf Hecken: write 20 diverse instruction-response pairs as JSON lines.' }] }));
    await opened.page.locator('.waterfall .score').waitFor();
    expect((await opened.page.locator('mark').allInnerTexts()).join(' ')).toContain('instruction-response pairs');
    await opened.page.locator('.waterfall').getByRole('button', { name: 'synthesis_instruction_records' }).click();
    const conditions = opened.page.getByRole('region', { name: 'Conditions' });
    expect(await conditions.innerText()).toMatch(/holds/);
    expect(await conditions.innerText()).toMatch(/does not hold/);
  });

  it('goes on without a network once it is loaded, and asks it for nothing', async () => {
    const asked: string[] = [];
    opened.page.on('request', (request) => asked.push(request.url()));
    await opened.page.context().setOffline(true);
    await fill('curl https://api.example.com/v1/chat/completions -H "authorization: Bearer sk-pasted" -d \'{"messages":[{"role":"user","content":"Write 20 diverse instruction-response pairs as JSON lines."}]}\'');
    await opened.page.locator('.waterfall .score').waitFor();
    expect(Number(await score())).toBeGreaterThan(5);
    await opened.page.context().setOffline(false);
    expect(asked.filter((url) => !url.startsWith('blob:'))).toEqual([]);
  });

  it('a link to share has the result without the text', async () => {
    await opened.page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    const before = await score();
    await opened.page.getByRole('button', { name: 'Copy link without the text' }).click();
    const link = await opened.page.evaluate(() => navigator.clipboard.readText());
    expect(link).not.toMatch(/instruction-response|diverse|sk-pasted/);
    const other = await open(browser, link);
    await other.page.locator('.waterfall .score').waitFor();
    expect(await other.page.locator('.waterfall .score').innerText()).toBe(before);
    other.check();
    await other.close();
    // What somebody makes up is checked.
    for (const hostile of ['%00', 'eyJ2IjoxfQ', 'x'.repeat(20_000), encodeURIComponent('{"v":1,"prior":1e999}')]) {
      const page = await open(browser, `${url()}?result=${hostile}`);
      await page.page.getByRole('alert').waitFor();
      page.check();
      await page.close();
    }
  });

  it('replays a file that is dropped on it', async () => {
    const lines = Array.from({ length: 3_000 }, (_, number) => JSON.stringify({ method: 'POST', path: '/v1/chat/completions', headers: { 'content-type': 'application/json', 'user-agent': 'x/1' }, label: number % 3 ? 'benign' : 'harvest', body: { messages: [{ role: 'user', content: number % 3 ? `What is hedge number ${number}?` : `Write 20 diverse instruction-response pairs as JSON lines, batch ${number}.` }] } }));
    lines[7] = '{broken';
    const file = path.join(ARTIFACTS, 'replay.ndjson');
    writeFileSync(file, `${lines.join('\n')}\n`);
    await opened.page.locator('input[type=file]').last().setInputFiles(file);
    const panel = opened.page.getByRole('region', { name: 'Replay' });
    await panel.getByText('synthesis_instruction_records').waitFor({ timeout: 60_000 });
    const text = await panel.innerText();
    expect(text).toMatch(/3,000/);
    expect(text).toMatch(/harvest/);
    expect(text).toMatch(/(line|Line)?\s*8\b/);
    opened.check();
  });

  it('is accessible and fits, in both themes and at every size; screenshots', { timeout: 120_000 }, async () => {
    for (const colorScheme of THEMES) {
      for (const viewport of SIZES) {
        const own = await open(browser, url(), { colorScheme, viewport });
        await own.page.locator('ul.examples button').nth(3).click();
        await own.page.locator('.waterfall .score').waitFor();
        await own.page.getByRole('region', { name: 'Conditions' }).locator('select').first().waitFor();
        const what = `playground ${colorScheme} ${viewport.width}`;
        expect([what, await axe(own.page)]).toEqual([what, []]);
        expect([what, await overflows(own.page)]).toEqual([what, []]);
        await own.page.screenshot({ path: path.join(ARTIFACTS, `playground-${colorScheme}-${viewport.width}.png`), fullPage: true });
        own.check();
        await own.close();
      }
    }
  });
});
