// The policy hides the version and the console: without a token, they are answered like unknown
// paths, or, on a host of the console, with the question for a password.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { keyPair } from './minisign.ts';
import { makeBundle, makeManifest, putRelease, READ_TOKEN } from './release-fixtures.ts';
import {
  eventually,
  type Filter,
  isBuilt,
  Origin,
  ROOT,
  useOrigin,
  withFilter,
} from './support.ts';

const keys = keyPair();
const origin = useOrigin(Origin.ok);
const FILES = path.join(ROOT, 'build/console/_hedgerow');
const hasConsole = isBuilt('build/console/_hedgerow', 'node scripts/build.mjs console');
const ASSET = hasConsole ? `/_hedgerow/assets/${readdirSync(path.join(FILES, 'assets'))[0]}` : '';
const VERSION = '/_hedgerow/version';
const PAGE = '/_hedgerow/';

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const basic = (password: string) => ({
  authorization: `Basic ${Buffer.from(`ana:${password}`).toString('base64')}`,
});

/** Runs a test body with a filter whose release hides version and console. */
const withHidden = (
  vars: Record<string, string | undefined>,
  body: (filter: Filter) => Promise<void>,
) =>
  withFilter(
    {
      origin,
      console: hasConsole,
      vars: { PUBLIC_KEYS: keys.publicKey, REFRESH_SECONDS: '1', READ_TOKEN, ...vars },
    },
    async (filter) => {
      const bundle = makeBundle({ lantern_red: 22 }, { policy: { admin: { hidden: true } } });
      await putRelease(await filter.kv(), keys, makeManifest(1, bundle), bundle);
      // The isolate reads the release although it answers nothing else.
      await eventually('the release', async () => {
        expect((await get(filter.url + VERSION)).status).not.toBe(200);
      });
      origin.requests.length = 0;
      await body(filter);
      expect(origin.requests).toEqual([]);
    },
  );

const get = (url: string, headers: Record<string, string> = {}) =>
  fetch(url, { headers, redirect: 'manual' });

/** Returns status and challenge of a GET request. */
async function answer(url: string, headers: Record<string, string> = {}) {
  const response = await get(url, headers);
  await response.arrayBuffer();
  return [response.status, response.headers.get('www-authenticate')?.split(' ')[0] ?? null];
}

it('the version needs a token, and is otherwise answered like an unknown path', () =>
  withHidden({ ENVIRONMENT: undefined }, async (filter) => {
    const unknown = await get(`${filter.url}/_hedgerow/unknown`);
    const hidden = await get(filter.url + VERSION);
    expect([hidden.status, await hidden.text()]).toEqual([404, await unknown.text()]);
    for (const headers of [bearer(READ_TOKEN), basic(READ_TOKEN)]) {
      const response = await get(filter.url + VERSION, headers);
      expect([response.status, await response.json()]).toEqual([
        200,
        expect.objectContaining({ release: 1, console_host: 'shared' }),
      ]);
    }
    for (const headers of [bearer('wrong-token-of-the-tests'), basic('wrong'), basic('')])
      expect(await answer(filter.url + VERSION, headers)).toEqual([404, null]);
    for (const authorization of ['Basic', 'Basic !!', 'Basic é', `Basic ${READ_TOKEN}`])
      expect((await answer(filter.url + VERSION, { authorization }))[0]).toBe(404);
    expect((await filter.health()).status).toBe(200);
  }));

it('a wrong token has the same effect on hidden and on unknown paths', () =>
  withHidden({ ENVIRONMENT: undefined }, async (filter) => {
    const unknown = `${filter.url}/_hedgerow/unknown`;
    const wrong = bearer('wrong-token-of-the-tests');
    for (const url of [filter.url + VERSION, unknown]) {
      const start = performance.now();
      expect([url, await answer(url, wrong)]).toEqual([url, [404, null]]);
      expect(performance.now() - start).toBeGreaterThan(500);
    }
    expect(await answer(unknown, bearer(READ_TOKEN))).toEqual([404, null]);
    // More than the failures of two minutes, in case that a minute ends meanwhile.
    const tries = await Promise.all(Array.from({ length: 50 }, () => answer(unknown, wrong)));
    expect(tries.map(([status]) => status)).toContain(429);
    expect((await get(unknown)).status).toBe(404);
  }));

it.skipIf(!hasConsole)('a browser can sign in to the console with the token as the password', () =>
  withHidden({}, async (filter) => {
    for (const target of [PAGE, '/_hedgerow', ASSET, VERSION]) {
      const url = filter.url + target;
      expect([target, await answer(url)]).toEqual([target, [401, 'Basic']]);
      expect([target, await answer(url, basic('wrong'))]).toEqual([target, [401, 'Basic']]);
      // A script with a wrong token must not make the browser ask.
      const wrong = bearer('wrong-token-of-the-tests');
      expect([target, await answer(url, wrong)]).toEqual([target, [404, null]]);
      for (const headers of [bearer(READ_TOKEN), basic(READ_TOKEN)])
        expect([target, (await answer(url, headers))[0]]).toEqual([
          target,
          target === '/_hedgerow' ? 308 : 200,
        ]);
    }
    // A cache that others share must not give them the files.
    for (const [target, expected] of [
      [PAGE, 'private, no-cache'],
      [ASSET, 'private, max-age=31536000, immutable'],
    ] as const) {
      const { headers } = await get(filter.url + target, bearer(READ_TOKEN));
      expect([target, headers.get('cache-control')]).toEqual([target, expected]);
    }
    // The API accepts no password: a browser would send it with requests of other sites.
    const status = `${filter.url}/_hedgerow/v1/status`;
    expect(await answer(status, basic(READ_TOKEN))).toEqual([401, 'Bearer']);
    expect((await answer(status, bearer(READ_TOKEN)))[0]).toBe(200);
  }),
);

it.skipIf(!hasConsole)('only a host of the console asks for the password', async () => {
  await withHidden({ CONSOLE_HOST: 'localhost', ENVIRONMENT: undefined }, async (filter) => {
    expect(await answer(`http://localhost:${filter.port}${PAGE}`)).toEqual([401, 'Basic']);
    expect(await answer(filter.url + PAGE)).toEqual([404, null]);
    expect(await answer(filter.url + PAGE, basic(READ_TOKEN))).toEqual([404, null]);
    expect(await answer(filter.url + VERSION)).toEqual([404, null]);
    expect((await answer(filter.url + VERSION, basic(READ_TOKEN)))[0]).toBe(200);
    expect((await (await filter.health()).json()).warnings).toEqual([]);
  });
  await withHidden({ ENVIRONMENT: undefined }, async (filter) => {
    expect(await answer(filter.url + PAGE)).toEqual([404, null]);
    expect(await answer(filter.url + PAGE, basic('wrong'))).toEqual([404, null]);
    expect((await (await filter.health()).json()).warnings).toEqual([
      {
        message: expect.stringContaining('CONSOLE_HOST is not set'),
        remedy: expect.stringContaining('CONSOLE_HOST'),
      },
    ]);
  });
});

it('without any token of the deployment, nobody sees them', () =>
  withHidden({ READ_TOKEN: undefined }, async (filter) => {
    for (const target of [VERSION, PAGE])
      for (const headers of [{}, basic(''), bearer('')])
        expect([target, await answer(filter.url + target, headers)]).toEqual([
          target,
          [404, null],
        ]);
  }));
