// Runs Chromium, and provides checks for every page: no console errors, and no requests to other
// hosts.
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { chromium as chromiumPath, CHROMIUM_FLAGS } from '../../scripts/lib/chromium.mjs';
import { PATIENCE_MS, ROOT } from '../edge/support.ts';

export const CHROMIUM = chromiumPath();
const isConsoleBuilt = existsSync(path.join(ROOT, 'build/console/_hedgerow/index.html'));
/** Whether the tests can run: Chromium is installed, and the console was built. */
export const canRun = Boolean(CHROMIUM) && isConsoleBuilt;
if (!CHROMIUM) {
  console.log(
    'skipped: Chromium not found; install it (`apt-get install chromium`), or set CHROMIUM',
  );
} else if (!isConsoleBuilt) {
  console.log('skipped: build/console/ not found; run `node scripts/build.mjs console`');
}

/** Folder for screenshots, which Git ignores. */
export const ARTIFACTS = path.join(ROOT, '.artifacts/www');
mkdirSync(ARTIFACTS, { recursive: true });

export const launch = (): Promise<Browser> =>
  chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });

/** Options of `expect.poll`. Tests poll, because a page changes with a delay. */
export const POLL = { timeout: PATIENCE_MS, interval: 50 };

/** Common sizes of a desktop, a tablet and a phone. */
const SIZES = [
  { width: 1440, height: 900 },
  { width: 768, height: 1024 },
  { width: 390, height: 844 },
];
export const THEMES = ['light', 'dark'] as const;

export interface Opened {
  page: Page;
  /** Fails if the page caused console errors other than `expected`, or requests to other hosts. */
  check(expected?: RegExp): void;
  close(): Promise<void>;
}

interface OpenOptions extends BrowserContextOptions {
  /** Token with which the page is signed in. */
  token?: string;
}

/** Opens a page in a new browser profile. */
export async function open(
  browser: Browser,
  url: string,
  { token, ...options }: OpenOptions = {},
): Promise<Opened> {
  const defaults = { viewport: SIZES[0]!, reducedMotion: 'reduce' } as const;
  const context = await browser.newContext({ ...defaults, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  if (token) {
    await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), token);
  }
  await context.addInitScript(() =>
    document.addEventListener('securitypolicyviolation', (event) => {
      const { violatedDirective, sample, sourceFile, lineNumber, columnNumber } = event;
      const position = `${sourceFile}:${lineNumber}:${columnNumber}`;
      const html = (event.target as Element)?.outerHTML?.slice(0, 300);
      console.error(`CSP: ${violatedDirective} ${sample} ${position} ${html}`);
    }),
  );
  const page = await context.newPage();
  const errors: string[] = [];
  const externalRequests: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) errors.push(message.text());
  });
  page.on('pageerror', (error) => errors.push(`${error.message}`));
  page.on('request', (request) => {
    const isLocal = /^(http:\/\/127\.0\.0\.1[:/]|data:|blob:)/.test(request.url());
    if (!isLocal) externalRequests.push(request.url());
  });
  await page.goto(url);
  return {
    page,
    check(expected) {
      expect(errors.filter((error) => !expected?.test(error))).toEqual([]);
      expect(externalRequests).toEqual([]);
    },
    close: () => context.close(),
  };
}

/** Waits until the page shows its data. */
export async function loaded(page: Page) {
  await page.locator('main h1').first().waitFor();
  const isLoaded = () =>
    [...document.querySelectorAll('.loading')].every((element) => !element.checkVisibility());
  await page.waitForFunction(isLoaded);
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface AxeViolation {
  id: string;
  nodes: { target: unknown[]; failureSummary: string }[];
}
interface Axe {
  run(root: Document, options: object): Promise<{ violations: AxeViolation[] }>;
}

/** Returns the violations of WCAG 2.2 AA on the page, one line per element. */
async function accessibilityViolations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const values = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { axe } = window as never as { axe: Axe };
    const { violations } = await axe.run(document, { runOnly: { type: 'tag', values } });
    return violations.flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => {
        return `${id}: ${target.join(' ')}: ${failureSummary.replaceAll('\n', ' ')}`;
      }),
    );
  });
}

/** Returns elements that extend beyond the right edge of the page, outside of scrolling boxes. */
const overflows = (page: Page): Promise<string[]> =>
  page.evaluate(() => {
    const found: string[] = [];
    const { clientWidth, scrollWidth } = document.documentElement;
    if (scrollWidth > clientWidth + 1) {
      found.push(`the page is ${scrollWidth} px wide on ${clientWidth}`);
    }
    const scrolling = '.scroll, [role=region][tabindex="0"], svg, .visually-hidden, pre';
    for (const element of document.querySelectorAll<HTMLElement>('main *')) {
      const { right, width } = element.getBoundingClientRect();
      if (width && right > clientWidth + 1 && !element.closest(scrolling)) {
        const name = `${element.tagName}.${element.className}`;
        found.push(`${name} ends at ${Math.round(right)} of ${clientWidth}`);
      }
    }
    return found;
  });

/**
 * Expects that a loaded page is accessible, and fits in both themes and all sizes. Saves a
 * screenshot of each combination. Loads the page only once, because compiling the rules takes most
 * of the time.
 */
export async function expectAccessibleAndFits(page: Page, name: string) {
  for (const colorScheme of THEMES) {
    await page.emulateMedia({ colorScheme });
    for (const viewport of SIZES) {
      await page.setViewportSize(viewport);
      const appearance = `${name}-${colorScheme}-${viewport.width}`;
      await expectAccessible(page, appearance);
      await expectNoOverflow(page, appearance);
      await screenshot(page, appearance);
    }
  }
}

/** Expects that the page is accessible. */
export const expectAccessible = (page: Page, message?: string) =>
  expect.poll(() => accessibilityViolations(page), { ...POLL, message }).toEqual([]);

/** Expects that nothing extends beyond the page. */
const expectNoOverflow = (page: Page, message?: string) =>
  expect.poll(() => overflows(page), { ...POLL, message }).toEqual([]);

/** Saves a screenshot of the whole page. */
export const screenshot = (page: Page, name: string) =>
  page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`), fullPage: true });
