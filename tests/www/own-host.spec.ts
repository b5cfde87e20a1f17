// The protection of the console against pages on other hosts and on its own host, in a real
// browser.
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keyPair } from '../edge/minisign.ts';
import { makeBundle, makeManifest, putRelease } from '../edge/release-fixtures.ts';
import { chat, eventually, Filter, Origin } from '../edge/support.ts';
import { canRun, launch, loaded, open } from './browser.ts';

const TOKEN = 'admin-token-of-the-tests';
const PATH = '/v1/chat/completions';

/** Responds as an origin with a page, two scripts, and an API that answers CORS preflights. */
const answer: typeof Origin.ok = (request, res) => {
  const type = request.path.endsWith('.js') ? 'text/javascript' : 'text/html';
  const cors = {
    'access-control-allow-origin': request.headers['origin'] ?? '*',
    'access-control-allow-headers': '*, authorization',
  };
  if (request.method === 'OPTIONS') return res.writeHead(204, cors).end();
  if (request.path === PATH) {
    return res.writeHead(200, { ...cors, 'content-type': 'application/json' }).end('{}');
  }
  res.writeHead(200, {
    'content-type': type,
    'cache-control': 'max-age=3600',
    ...(request.path.startsWith('/app/') && { 'service-worker-allowed': '/' }),
  });
  const takeOver = "onfetch = (event) => event.respondWith(new Response('taken over'));";
  return res.end(type === 'text/html' ? '<!doctype html><title>a page</title>' : takeOver);
};

describe.skipIf(!canRun)('a browser', () => {
  let browser: Browser;
  let origin: Origin;
  let filter: Filter;
  beforeAll(async () => {
    origin = await Origin.start();
    origin.handler = answer;
    filter = new Filter({ origin, console: true, vars: { ADMIN_TOKEN: TOKEN } });
    [browser] = await Promise.all([launch(), filter.start()]);
  });
  afterAll(async () => {
    await browser?.close();
    await filter?.dispose();
    await origin?.close();
  });

  it('reads a refusal of another host, with its delay and id', async () => {
    // To a browser, `localhost` and 127.0.0.1 are different web origins.
    const { page, close } = await open(browser, `http://localhost:${filter.port}/`);
    const read = (action: string) =>
      page.evaluate(
        async ([url, action, body]) => {
          const response = await fetch(url!, {
            method: 'POST',
            headers: {
              'content-type': 'application/json',
              authorization: 'Bearer sk-test-0001',
              'x-hedgerow-mode': 'enforce',
              'x-hedgerow-action': action!,
            },
            body: body!,
          });
          const { error } = await response.json();
          const names = ['retry-after', 'x-should-retry', 'x-hedgerow-request-id'];
          return [response.status, error?.type, ...names.map((name) => response.headers.get(name))];
        },
        [filter.url + PATH, action, JSON.stringify(chat('When do blackbirds nest?'))],
      );
    const id = expect.stringMatching(/^[0-9a-f-]{36}$/);
    expect(await read('throttle')).toEqual([429, 'rate_limit_exceeded', '30', 'false', id]);
    expect(await read('block')).toEqual([403, 'permission_denied', null, 'false', id]);
    await close();
  });

  /** Registers a service worker. Returns its scope, or the name of the error. */
  const register = (page: Page, script: string, scope: string, cached = false) =>
    page.evaluate(
      async ([script, scope, cached]) => {
        // Loads the script as an ordinary script first, so that the browser has it in its cache.
        if (cached) await (await fetch(script as string)).text();
        const options = { scope, updateViaCache: cached ? 'all' : 'none' };
        return navigator.serviceWorker
          .register(script as string, options as RegistrationOptions)
          .then(
            ({ scope }) => new URL(scope).pathname,
            (error: Error) => error.name,
          );
      },
      [script, scope, cached] as const,
    );

  it('lets service workers of the origin control every path if there is no console', async () => {
    const plain = new Filter({ origin });
    await plain.start();
    try {
      for (const cached of [false, true]) {
        const { page, close } = await open(browser, `${plain.url}/app/`);
        expect(await register(page, '/sw.js', '/', cached)).toBe('/');
        expect(await register(page, '/app/sw.js', '/_hedgerow/', cached)).toBe('/_hedgerow/');
        await close();
      }
    } finally {
      await plain.dispose();
    }
  });

  it('does not let a page of the origin register a service worker over the console', async () => {
    const { page, close } = await open(browser, `${filter.url}/app/`);
    for (const cached of [false, true]) {
      // The first registration fails because of the response status, the second because of the
      // scope.
      expect(await register(page, '/sw.js', '/', cached)).toBe('TypeError');
      expect(await register(page, '/app/sw.js', '/_hedgerow/', cached)).toBe('SecurityError');
    }
    // The origin's application may still register a service worker for its own folder.
    expect(await register(page, '/app/sw.js', '/app/')).toBe('/app/');
    await page.goto(`${filter.url}/_hedgerow/`);
    await loaded(page);
    expect(await page.title()).toMatch(/Hedgerow/);
    await close();
  });

  it('is not asked for a key on a host that has other pages, too', async () => {
    const shared = new Filter({
      origin,
      console: true,
      vars: { ADMIN_TOKEN: TOKEN, ENVIRONMENT: undefined, CONSOLE_RULES: 'open' },
    });
    await shared.start();
    try {
      const url = `${shared.url}/_hedgerow/#/rules?rule=synthesis_instruction_records&tab=edit`;
      const { page, close } = await open(browser, url, { token: TOKEN });
      await page.getByText('Sign here with your own key').click();
      await page.getByText('This page takes no key').waitFor();
      expect(await page.locator('input[type=password], input[type=file]').count()).toBe(0);
      await close();
    } finally {
      await shared.dispose();
    }
  });

  it('opens a hidden console with the token as the password', async () => {
    const keys = keyPair();
    const vars = { ADMIN_TOKEN: TOKEN, PUBLIC_KEYS: keys.publicKey, REFRESH_SECONDS: '1' };
    const hidden = new Filter({ origin, console: true, vars });
    await hidden.start();
    try {
      const bundle = makeBundle({ lantern_red: 22 }, { policy: { admin: { hidden: true } } });
      await putRelease(await hidden.kv(), keys, makeManifest(1, bundle), bundle);
      const url = `${hidden.url}/_hedgerow/`;
      await eventually('the release', async () => expect((await fetch(url)).status).toBe(401));
      const httpCredentials = { username: 'ana', password: TOKEN };
      const { page, close } = await open(browser, url, { token: TOKEN, httpCredentials });
      await loaded(page);
      expect(await page.title()).toMatch(/Hedgerow/);
      const version = () => fetch('/_hedgerow/version').then((response) => response.status);
      expect(await page.evaluate(version)).toBe(200);
      await close();
    } finally {
      await hidden.dispose();
    }
  });
});
