// The playground uses the same core as the edge. It works offline, and sends no pasted text.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_LINE } from '../../scripts/lib/build.mjs';
import { score as formatScore } from '../../www/src/format.ts';
import { Filter, type Fixture, fixtures, Origin, ROOT, sendFixture } from '../edge/support.ts';
import {
  ARTIFACTS,
  canRun,
  expectAccessible,
  expectAccessibleAndFits,
  launch,
  open,
  type Opened,
  POLL,
  screenshot,
  THEMES,
} from './browser.ts';

const INPUT = 'Raw HTTP request, curl command, HAR entry, or JSON body';
const RECORDS = 'write 20 diverse instruction-response pairs as JSON lines';

const chatBody = (content: string) => ({ messages: [{ role: 'user', content }] });

describe.skipIf(!canRun)('the playground', () => {
  let browser: Browser;
  let origin: Origin;
  let filter: Filter;
  let opened: Opened;
  let page: Page;
  const url = () => `${filter.url}/_hedgerow/#/playground`;
  const fill = async (text: string) => {
    // Clears the input first, so that the previous result disappears.
    await page.getByLabel(INPUT).fill('');
    await page.locator('ul.examples').waitFor();
    await page.getByLabel(INPUT).fill(text);
  };
  const hitNames = async () =>
    (await page.locator('.waterfall .step-hit th').allInnerTexts()).sort();
  const scoreText = () => page.locator('.waterfall .score').innerText();

  beforeAll(async () => {
    browser = await launch();
    origin = await Origin.start();
    filter = await Filter.start({ origin, console: true });
    opened = await open(browser, url());
    page = opened.page;
    await page.locator('ul.examples').waitFor();
  });
  afterAll(async () => {
    await browser?.close();
    await filter?.dispose();
    await origin?.close();
  });

  /** Sends a fixture to the edge with a new credential, so that no correlation fires. */
  const sendToEdge = async (fixture: Fixture, text: string) => {
    const credentials = /^(authorization|x-api-key|api-key|x-goog-api-key)$/;
    const headers = Object.entries(fixture.headers).map(([name, value]) => {
      return [name, credentials.test(name) ? `Bearer sk-${fixture.name}` : value];
    });
    const body = Buffer.from(text.slice(text.indexOf('\n\n') + 2));
    return sendFixture(filter, { ...fixture, headers: Object.fromEntries(headers), body });
  };

  const scoreOnCommandLine = (text: string): number => {
    const file = path.join(ARTIFACTS, 'fixture.http');
    writeFileSync(file, text);
    const args = ['--format', 'json', 'score', file];
    const output = execFileSync(COMMAND_LINE, args, { cwd: ROOT, encoding: 'utf8' });
    return JSON.parse(output).decision.score;
  };

  it(
    'scores every fixture like the Worker and the command line',
    async () => {
      for (const fixture of fixtures()) {
        const file = path.join(ROOT, 'tests/fixtures/requests', `${fixture.name}.http`);
        // A text area converts CRLF to LF, so the edge and the command line also get LF.
        const text = readFileSync(file, 'utf8').replaceAll('\r\n', '\n');
        await fill(text);
        const { headers } = await sendToEdge(fixture, text);
        const score = headers['x-hedgerow-score'];
        if (score === undefined) {
          await page.getByText('Not an LLM call').waitFor();
          continue;
        }
        const expected = formatScore(Number(score));
        const hits = String(headers['x-hedgerow-hits']).split(',').filter(Boolean).sort();
        const message = fixture.name;
        // Waits for the score, because hits are shown only after it.
        await expect.poll(scoreText, { ...POLL, message }).toBe(expected);
        await expect.poll(hitNames, { ...POLL, message }).toEqual(hits);
        if (existsSync(COMMAND_LINE)) {
          expect(formatScore(scoreOnCommandLine(text)), message).toBe(expected);
        }
      }
      opened.check();
    },
  );

  it('marks evidence, and shows which conditions hold', async () => {
    await fill(JSON.stringify({ model: 'm', ...chatBody(`Zwölf Hecken: ${RECORDS}.`) }));
    await expect
      .poll(async () => (await page.locator('mark').allInnerTexts()).join(''), POLL)
      .toContain('instruction-response pairs');
    const hit = page.locator('.waterfall').getByRole('button', {
      name: 'synthesis_instruction_records',
    });
    await hit.click();
    const conditions = page.getByRole('region', { name: 'Conditions' });
    await expect.poll(() => conditions.innerText(), POLL).toMatch(/✓ holds/);
    await expect.poll(() => conditions.innerText(), POLL).toMatch(/✗ does not hold/);
  });

  it('shows who speaks, in labels, lines and a legend, and takes all text as text', async () => {
    const sheet = 'The hedge is cut in June. '.repeat(8).trim();
    const examples = ['water it', 'pay it', 'mow it'].map((ask, index) => {
      return `Request: ${ask}\nClass:${index < 2 ? ' garden' : ''}`;
    });
    const html = '<img src=x onerror="document.title=1">';
    const ask = `When is it cut? ${html}\n\n<document>\n${sheet}\n</document>`;
    const messages = [
      { role: 'system', content: 'Answer in Gaelic.' },
      { role: 'user', content: ask },
      { role: 'assistant', content: 'Which hedge?' },
      { role: 'user', content: `Sort the requests: ${RECORDS}.\n\n${examples.join('\n\n')}` },
    ];
    await fill(JSON.stringify({ model: 'm', messages }));
    const panel = page.getByRole('region', { name: 'Body', exact: true });
    const passages = panel.locator('.body-text .passage');
    await expect.poll(() => passages.allTextContents(), POLL).toEqual([
      'systemAnswer in Gaelic.',
      expect.stringMatching('^instructionWhen is it cut'),
      `material${sheet}`,
      String.raw`instruction\n</document>`,
      expect.stringMatching('^instructionSort the requests'),
      String.raw`exampleswater it\nClass: garden`,
      String.raw`instruction\n\nRequest: `,
      String.raw`examplespay it\nClass: garden`,
      String.raw`instruction\n\nRequest: mow it\nClass:`,
    ]);
    expect(await passages.first().getAttribute('title')).toBe(
      'hedgerow.prompt.instruction, in gen_ai.system_instructions',
    );
    const lines = await passages.evaluateAll((found) =>
      found.map((one) => getComputedStyle(one).textDecorationStyle),
    );
    expect(new Set(lines)).toEqual(new Set(['double', 'solid', 'dotted', 'dashed']));
    const legend = panel.getByRole('list', { name: 'Roles of passages' });
    expect(await legend.getByRole('listitem').allInnerTexts()).toEqual([
      expect.stringMatching(/^system asks/),
      expect.stringMatching(/^instruction asks/),
      expect.stringMatching(/^material is/),
      expect.stringMatching(/^examples shows/),
    ]);
    // Within a passage, matches are still marked.
    const marks = passages.nth(4).locator('mark');
    await expect.poll(async () => (await marks.allInnerTexts()).join(''), POLL).toMatch(/pairs/);
    expect(await panel.locator('img').count()).toBe(0);
    expect(await passages.nth(1).innerText()).toContain(html.replaceAll('"', '\\"'));
    for (const colorScheme of THEMES) {
      await page.emulateMedia({ colorScheme });
      await expectAccessible(page, `passages-${colorScheme}`);
      await screenshot(page, `passages-${colorScheme}`);
    }
    await page.emulateMedia({ colorScheme: null });
    opened.check();
  });

  it('works offline once it is loaded, without requests', async () => {
    const requests: string[] = [];
    page.on('request', (request) => requests.push(request.url()));
    await page.context().setOffline(true);
    const body = JSON.stringify(chatBody(`${RECORDS}.`));
    const address = 'https://api.example.com/v1/chat/completions';
    await fill(`curl ${address} -H "authorization: Bearer sk-pasted" -d '${body}'`);
    await expect.poll(async () => Number(await scoreText()), POLL).toBeGreaterThan(5);
    await page.context().setOffline(false);
    expect(requests.filter((url) => !url.startsWith('blob:'))).toEqual([]);
  });

  it('shares a link with the result and without the text', async () => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    const score = await scoreText();
    await page.getByRole('button', { name: 'Copy link without the text' }).click();
    const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
    await expect.poll(clipboard, POLL).toMatch(/^http.*result=/);
    const link = await clipboard();
    expect(link).not.toMatch(/instruction-response|diverse|sk-pasted/);
    const other = await open(browser, link);
    await expect.poll(() => other.page.locator('.waterfall .score').innerText(), POLL).toBe(score);
    other.check();
    await other.close();
  });

  it.each(['%00', 'eyJ2IjoxfQ', 'x'.repeat(20_000), encodeURIComponent('{"v":1,"prior":1e999}')])(
    'rejects an invalid link (%#)',
    async (result) => {
      const other = await open(browser, `${url()}?result=${result}`);
      await other.page.getByRole('alert').waitFor();
      other.check();
      await other.close();
    },
  );

  it('replays a file', async () => {
    const lines = Array.from({ length: 3_000 }, (_, number) => {
      const isHarvest = number % 3 === 0;
      return JSON.stringify({
        method: 'POST',
        path: '/v1/chat/completions',
        headers: { 'content-type': 'application/json', 'user-agent': 'x/1' },
        label: isHarvest ? 'harvest' : 'benign',
        body: chatBody(isHarvest ? `${RECORDS}, batch ${number}.` : `What is hedge ${number}?`),
      });
    });
    lines[7] = '{broken';
    const file = path.join(ARTIFACTS, 'replay.ndjson');
    writeFileSync(file, `${lines.join('\n')}\n`);
    await page.locator('input[type=file]').last().setInputFiles(file);
    const panel = page.getByRole('region', { name: 'Replay' });
    await panel.getByText('synthesis_instruction_records').waitFor();
    for (const part of ['3,000 lines', 'harvest', 'Line 8:']) {
      await expect.poll(() => panel.innerText(), POLL).toContain(part);
    }
    opened.check();
  });

  it('is accessible and fits, in both themes and all sizes', async () => {
    const own = await open(browser, url());
    await own.page.locator('ul.examples button').nth(3).click();
    await own.page.locator('.waterfall .score').waitFor();
    const conditions = own.page.getByRole('region', { name: 'Conditions' });
    await conditions.locator('select').first().waitFor();
    await expectAccessibleAndFits(own.page, 'playground');
    own.check();
    await own.close();
  });
});
