// Makes the screenshots in docs/console.md. Needs a filter that `npm start` runs, with the traffic
// of `npm run demo`.
//   node scripts/screenshots.mjs
import { readFileSync } from 'node:fs';
import { chromium as playwright } from 'playwright-core';
import { chromium, CHROMIUM_FLAGS } from './lib/chromium.mjs';
import { fromRoot, Failure, main } from './lib/proc.mjs';

const BASE = 'http://127.0.0.1:8787/_hedgerow/';

/** For each view, a function that opens the view and waits for its contents. */
const VIEWS = {
  overview: async (page) => {
    await page.goto(`${BASE}#/overview?minutes=15`);
    await page.locator('.chart svg').waitFor();
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
  if (!executablePath) {
    const remedy = 'Install it (`apt-get install chromium`), or set CHROMIUM to its path.';
    throw new Failure(`Chromium was not found.\n  ${remedy}`);
  }
  if (!(await fetch(BASE).catch(() => null))) {
    const remedy = 'Run `npm start` in another shell, then `npm run demo`.';
    throw new Failure(`nothing listens at ${BASE}.\n  ${remedy}`);
  }
  const browser = await playwright.launch({ executablePath, args: CHROMIUM_FLAGS });
  try {
    const context = await browser.newContext({
      viewport: { width: 1440, height: 900 },
      colorScheme: 'light',
      reducedMotion: 'reduce',
      timezoneId: 'UTC',
    });
    const token = readFileSync(fromRoot('.wrangler/dev-token'), 'utf8').trim();
    await context.addInitScript((value) => sessionStorage.setItem('hedgerow.token', value), token);
    const page = await context.newPage();
    for (const [name, show] of Object.entries(VIEWS)) {
      await show(page);
      await page.waitForFunction(() => {
        const indicators = [...document.querySelectorAll('.loading')];
        return indicators.every((element) => !element.checkVisibility());
      });
      await page.screenshot({ path: fromRoot(`docs/console-${name}.png`) });
      console.log(`docs/console-${name}.png`);
    }
  } finally {
    await browser.close();
  }
});
