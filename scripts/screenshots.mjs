// The pictures in docs/console.md: of a filter that `npm start` runs, after `npm run demo`.
//   node scripts/screenshots.mjs
import { readFileSync } from 'node:fs';
import { chromium as playwright } from 'playwright-core';
import { chromium } from './lib/chromium.mjs';
import { fromRoot, Failure, main } from './lib/proc.mjs';

const BASE = 'http://127.0.0.1:8787/_hedgerow/';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Each view as it is seen first, and how it gets there. */
const VIEWS = {
  overview: async (page) => {
    await page.goto(`${BASE}#/overview?minutes=15`);
    await page.locator('.chart canvas').waitFor();
  },
  decisions: async (page) => {
    await page.goto(`${BASE}#/decisions?band=hostile`);
    await page.locator('table.decisions tbody tr').nth(2).click();
    await page.locator('.waterfall').waitFor();
  },
  clusters: async (page) => {
    await page.goto(`${BASE}#/clusters`);
    await page.locator('table.clusters a').first().click();
    await page.locator('.timeline').waitFor();
  },
  playground: async (page) => {
    await page.goto(`${BASE}#/playground`);
    await page.locator('ul.examples button').nth(3).click();
    await page.locator('.waterfall').waitFor();
    await page.locator('.signature-picker').waitFor();
  },
  rules: async (page) => {
    await page.goto(`${BASE}#/rules?rule=synthesis_instruction_records&tab=edit`);
    await page.locator('.cm-content').waitFor();
    await page.getByText('No problems', { exact: true }).waitFor();
  },
};

await main(async () => {
  const executablePath = chromium();
  if (!executablePath) throw new Failure('there is no Chromium.\n  Install one (`apt-get install chromium`), or name it in CHROMIUM.');
  if (!(await fetch(BASE).catch(() => null))) throw new Failure(`nobody listens at ${BASE}.\n  Start the filter in another shell: \`npm start\`; then \`npm run demo\`.`);
  const browser = await playwright.launch({ executablePath, args: FLAGS });
  try {
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce', timezoneId: 'UTC' });
    await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), readFileSync(fromRoot('.wrangler/dev-token'), 'utf8').trim());
    const page = await context.newPage();
    for (const [name, show] of Object.entries(VIEWS)) {
      await show(page);
      await page.waitForFunction(() => [...document.querySelectorAll('.loading')].every((element) => !element.checkVisibility()));
      await page.screenshot({ path: fromRoot(`docs/console-${name}.png`) });
      console.log(`docs/console-${name}.png`);
    }
  } finally {
    await browser.close();
  }
});
