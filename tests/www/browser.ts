// A real Chromium, and what holds for every page that it shows: no complaint in its console, and no request to anywhere but
// this machine.
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { chromium as chromiumPath } from '../../scripts/lib/chromium.mjs';
import { ROOT } from '../edge/support.ts';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
/** Where a Chromium is, if there is one and the console was built. */
export const CHROMIUM = chromiumPath();
export const runs = Boolean(CHROMIUM) && existsSync(path.join(ROOT, 'build/console/_hedgerow/index.html'));
if (!runs) console.log(CHROMIUM ? 'skipped: build/console/ does not exist (`node scripts/build.mjs console`)' : 'skipped: there is no Chromium; install one (`apt-get install chromium`), or name it in CHROMIUM');

/** Where screenshots go; git does not keep them. */
export const ARTIFACTS = path.join(ROOT, '.artifacts/www');
mkdirSync(ARTIFACTS, { recursive: true });

export const launch = (): Promise<Browser> => chromium.launch({ executablePath: CHROMIUM, args: FLAGS });

/** Sizes that people have. */
export const SIZES = [
  { width: 1440, height: 900 },
  { width: 768, height: 1024 },
  { width: 390, height: 844 },
];
export const THEMES = ['light', 'dark'] as const;

export interface Opened {
  page: Page;
  /** What the page complained about. */
  complaints: string[];
  /** Fails if there was any complaint but those that a test expects, or a request to elsewhere. */
  check(expected?: RegExp): void;
  close(): Promise<void>;
}

/** A page in a profile of its own. */
export async function open(browser: Browser, url: string, { token, ...options }: BrowserContextOptions & { token?: string } = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: SIZES[0]!, reducedMotion: 'reduce', ...options });
  if (token) await context.addInitScript((token) => sessionStorage.setItem('hedgerow.token', token), token);
  await context.addInitScript(() => document.addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.sample} ${event.sourceFile}:${event.lineNumber}:${event.columnNumber} ${(event.target as Element)?.outerHTML?.slice(0, 300)}`)));
  const page = await context.newPage();
  const complaints: string[] = [];
  const strays: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(`${error.message}`));
  page.on('request', (request) => {
    if (!/^(http:\/\/127\.0\.0\.1[:/]|data:|blob:)/.test(request.url())) strays.push(request.url());
  });
  await page.goto(url);
  return {
    page,
    complaints,
    check(expected) {
      expect(complaints.filter((complaint) => !expected?.test(complaint))).toEqual([]);
      expect(strays).toEqual([]);
    },
    close: () => context.close(),
  };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds against WCAG 2.2 AA, as lines that say where. */
export async function axe(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await (window as never as { axe: { run(root: Document, options: object): Promise<{ violations: { id: string; nodes: { target: unknown[]; failureSummary: string }[] }[] }> } }).axe.run(document, { runOnly: { type: 'tag', values: tags } });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target.join(' ')}: ${failureSummary.replaceAll('\n', ' ')}`));
  });
}

/** What sticks out of the page to the right, or is cut off within its own box. */
export const overflows = (page: Page): Promise<string[]> =>
  page.evaluate(() => {
    const found: string[] = [];
    const { clientWidth } = document.documentElement;
    if (document.documentElement.scrollWidth > clientWidth + 1) found.push(`the page is ${document.documentElement.scrollWidth} px wide on ${clientWidth}`);
    for (const element of document.querySelectorAll<HTMLElement>('main *')) {
      const { right, width } = element.getBoundingClientRect();
      const scrolls = element.closest('.scroll, [role=region][tabindex="0"], .u-wrap, svg, .visually-hidden, pre');
      if (width && right > clientWidth + 1 && !scrolls) found.push(`${element.tagName}.${element.className} ends at ${Math.round(right)} of ${clientWidth}`);
    }
    return found;
  });
