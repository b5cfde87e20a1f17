// The actions in each dialect, in the modes enforce and shadow, and in development and production.
import { describe, expect, it } from 'vitest';
import {
  chat,
  decisionTags,
  enforce,
  fixture,
  Origin,
  send,
  sendFixture,
  sha256,
  TAG_HEADERS,
  tagHeaders,
  tagMac,
  useFilter,
  useOrigin,
  withFilter,
} from './support.ts';

const origin = useOrigin(Origin.ok);
const filter = useFilter({ origin });

const HARVEST = ['harvest-openai', 'harvest-anthropic', 'harvest-gemini'];

describe('the policy decides by band', () => {
  const ACTION = { clear: 'allow', notice: 'tag', suspect: 'degrade', hostile: 'block' } as const;

  for (const name of HARVEST) {
    it(`${name} is at least suspect`, async () => {
      const res = await sendFixture(filter, fixture(name), enforce());
      const decision = await filter.decision(res);
      expect(['suspect', 'hostile']).toContain(decision.band);
      expect(decision).toMatchObject({
        action: ACTION[decision.band],
        enforced: true,
        mode: 'enforce',
      });
      expect(decision.hits.length).toBeGreaterThan(0);
      expect(res.status).toBe(decision.band === 'hostile' ? 403 : 200);
      expect(origin.requests).toHaveLength(decision.band === 'hostile' ? 0 : 1);
    });
  }

  for (const name of [
    'openai-chat',
    'openai-chat-tools',
    'openai-responses',
    'anthropic-messages',
    'gemini-stream',
  ]) {
    it(`${name} stays below suspect`, async () => {
      const decision = await filter.decision(await sendFixture(filter, fixture(name), enforce()));
      expect(['clear', 'notice']).toContain(decision.band);
    });
  }
});

describe('tag', () => {
  it('adds authenticated headers and leaves the body alone', async () => {
    const request = fixture('harvest-openai');
    const res = await sendFixture(filter, request, enforce('tag'));
    expect(res.status).toBe(200);
    expect(origin.last.sha256).toBe(sha256(request.body));
    const tags = tagHeaders(origin.last);
    expect(Object.keys(tags).sort()).toEqual([...TAG_HEADERS, 'x-hedgerow-mac'].sort());
    expect(tags['x-hedgerow-mac']).toBe(tagMac(tags));
    const decision = await filter.decision(res);
    expect(tags).toMatchObject({
      'x-hedgerow-request-id': decision.request_id,
      'x-hedgerow-band': decision.band,
      'x-hedgerow-ruleset': decision.ruleset,
    });
    expect(Number(tags['x-hedgerow-score'])).toBeCloseTo(decision.score, 1);
    for (const { name } of decision.hits) expect(tags['x-hedgerow-hits']).toContain(name);
  });

  it('has no MAC without TAG_SECRET', () =>
    withFilter({ origin, vars: { TAG_SECRET: undefined } }, async (filter) => {
      await sendFixture(filter, fixture('harvest-openai'), enforce('tag'));
      expect(tagHeaders(origin.last)).toHaveProperty('x-hedgerow-score');
      expect(tagHeaders(origin.last)).not.toHaveProperty('x-hedgerow-mac');
    }));

  it('adds nothing to a clear request', async () => {
    const res = await filter.post(
      '/v1/chat/completions',
      chat('When do blackbirds nest?'),
      enforce(),
    );
    expect((await filter.decision(res)).band).toBe('clear');
    expect(decisionTags(origin.last)).toEqual({});
  });
});

describe('degrade', () => {
  const degraded = async (name: string) => {
    const res = await sendFixture(filter, fixture(name), enforce('degrade'));
    expect(res.status).toBe(200);
    expect((await filter.decision(res)).degraded).toBe('edited');
    expect(origin.last.bytes).toBe(
      Number(origin.last.headers['content-length'] ?? origin.last.bytes),
    );
    return [JSON.parse(fixture(name).body.toString()), JSON.parse(origin.last.body.toString())];
  };

  it('removes log probabilities, bias and extra choices from chat', async () => {
    const [before, after] = await degraded('openai-chat-probing');
    const { logprobs, top_logprobs, logit_bias, n, ...rest } = before;
    expect(after.n ?? 1).toBe(1);
    delete after.n;
    expect(after).toEqual(rest);
    expect([logprobs, top_logprobs, n, Object.keys(logit_bias).length]).toEqual([true, 20, 4, 3]);
  });

  it('removes echo and best_of from completions', async () => {
    const [, after] = await degraded('openai-completions-string');
    expect(after).toEqual({
      model: 'demo-base',
      prompt: 'Once the hedge was cut,',
      max_tokens: 32,
      stop: '\n',
    });
  });

  it('removes reasoning summaries and encrypted reasoning from responses', async () => {
    const [before, after] = await degraded('openai-responses');
    expect(after.reasoning).toEqual({ effort: 'high' });
    expect(after.include ?? []).toEqual([]);
    expect(after).not.toHaveProperty('top_logprobs');
    expect(after.input).toEqual(before.input);
  });

  it('removes log probabilities, extra candidates and thoughts from Gemini', async () => {
    const [before, { generationConfig }] = await degraded('gemini-generate');
    expect(generationConfig.candidateCount ?? 1).toBe(1);
    expect(generationConfig.thinkingConfig?.includeThoughts ?? false).toBe(false);
    expect(generationConfig).not.toHaveProperty('responseLogprobs');
    expect(generationConfig).not.toHaveProperty('logprobs');
    expect(generationConfig.responseSchema).toEqual(before.generationConfig.responseSchema);
  });

  it('edits each line of a batch file', async () => {
    const plain = fixture('openai-files-batch');
    const probing = {
      ...plain,
      body: Buffer.from(
        plain.body
          .toString()
          .replaceAll('"max_tokens"', '"logprobs": true, "top_logprobs": 20, "max_tokens"'),
      ),
    };
    expect(probing.body.length).toBeGreaterThan(plain.body.length);
    const res = await sendFixture(filter, probing, enforce('degrade'));
    expect([res.status, (await filter.decision(res)).degraded]).toEqual([200, 'edited']);
    expect(origin.last.body.toString()).toBe(plain.body.toString());
  });

  it('edits plain JSON despite wrong headers, which some origins ignore', async () => {
    for (const wrong of [
      { 'content-encoding': 'br' },
      { 'content-encoding': 'gzip' },
      { 'content-type': 'multipart/form-data; boundary=x' },
      { 'content-type': 'text/plain' },
    ]) {
      const res = await send(filter.url, {
        path: '/v1/chat/completions',
        headers: { 'content-type': 'application/json', ...wrong, ...enforce('degrade') },
        body: '{"logprobs":true,"messages":[]}',
      });
      expect([
        res.status,
        (await filter.decision(res)).degraded,
        origin.last.body.toString(),
      ]).toEqual([200, 'edited', '{"messages":[]}']);
    }
  });

  it('leaves a body unchanged that has nothing to remove', async () => {
    const request = fixture('openai-chat');
    const res = await sendFixture(filter, request, enforce('degrade'));
    expect(origin.last.sha256).toBe(sha256(request.body));
    expect((await filter.decision(res)).degraded).toBe('unchanged');
  });

  it('forwards bodies that it cannot edit, and logs them as not_editable', async () => {
    const json = '{"logprobs":true,"messages":[]}';
    const rows = [
      ['{"messages":[{"role":"user","content":"cut o', 'not_editable', {}],
      [json.slice(0, -1), 'not_editable', {}],
      ['\u001f\u008b\b', 'not_editable', { 'content-encoding': 'gzip' }],
      [json + ' '.repeat(8 << 20), 'not_editable', {}],
      ['', 'not_editable', {}],
      ['[]', 'unchanged', {}],
      ['null', 'unchanged', {}],
      ['"logprobs"', 'unchanged', {}],
    ] as const;
    for (const [body, degraded, headers] of rows) {
      const res = await send(filter.url, {
        path: '/v1/chat/completions',
        headers: { 'content-type': 'application/json', ...headers, ...enforce('degrade') },
        body,
      });
      expect([res.status, origin.last.sha256]).toEqual([200, sha256(body)]);
      expect([body.slice(0, 40), (await filter.decision(res)).degraded]).toEqual([
        body.slice(0, 40),
        degraded,
      ]);
    }
  });
});

describe('throttle and block answer in the dialect of the request', () => {
  const SHAPES: Record<string, Record<number, object>> = {
    'openai-chat': {
      429: {
        error: {
          message: expect.any(String),
          type: expect.any(String),
          param: null,
          code: expect.any(String),
          request_id: expect.any(String),
        },
      },
      403: {
        error: {
          message: expect.any(String),
          type: expect.any(String),
          param: null,
          code: expect.any(String),
          request_id: expect.any(String),
        },
      },
    },
    'openai-responses': { 429: { error: { param: null } }, 403: { error: { param: null } } },
    'anthropic-messages': {
      429: {
        type: 'error',
        error: { type: 'rate_limit_error', message: expect.any(String) },
        request_id: expect.any(String),
      },
      403: {
        type: 'error',
        error: { type: 'permission_error', message: expect.any(String) },
        request_id: expect.any(String),
      },
    },
    'gemini-generate': {
      429: { error: { code: 429, message: expect.any(String), status: 'RESOURCE_EXHAUSTED' } },
      403: { error: { code: 403, message: expect.any(String), status: 'PERMISSION_DENIED' } },
    },
  };
  for (const [name, shapes] of Object.entries(SHAPES)) {
    for (const [action, status] of [
      ['throttle', 429],
      ['block', 403],
    ] as const) {
      it(`${name}: ${action}`, async () => {
        const res = await sendFixture(filter, fixture(name), enforce(action));
        expect(res.status).toBe(status);
        expect(res.headers['content-type']).toMatch(/^application\/json/);
        expect(JSON.parse(res.body.toString())).toMatchObject(shapes[status]!);
        if (action === 'throttle') expect(Number(res.headers['retry-after'])).toBeGreaterThan(0);
        expect(await filter.decision(res)).toMatchObject({ action, enforced: true });
        expect(origin.requests).toHaveLength(0);
        expect(res.body.toString()).not.toMatch(/signature|score|harvest|hedgerow\.|elicitation/i);
      });
    }
  }

  it('also if the body is larger than the limit of what is read', async () => {
    const res = await filter.post(
      '/v1/chat/completions',
      chat('x'.repeat(8 << 20)),
      enforce('block'),
    );
    expect(res.status).toBe(403);
    expect(origin.requests).toHaveLength(0);
  });
});

describe('shadow', () => {
  it('is the default, and changes nothing at the origin', async () => {
    for (const name of HARVEST) {
      const request = fixture(name);
      const res = await sendFixture(filter, request);
      expect(res.status).toBe(200);
      expect(origin.last.sha256).toBe(sha256(request.body));
      const decision = await filter.decision(res);
      expect(decision).toMatchObject({ mode: 'shadow', enforced: false });
      expect(['degrade', 'block']).toContain(decision.action);
      expect(decisionTags(origin.last)).toEqual({});
    }
  });
});

describe('development', () => {
  it('shows the decision to the client', async () => {
    const res = await sendFixture(filter, fixture('harvest-openai'));
    const decision = await filter.decision(res);
    expect(res.headers).toMatchObject({
      'x-hedgerow-band': decision.band,
      'x-hedgerow-action': decision.action,
      'x-hedgerow-ruleset': decision.ruleset,
    });
    expect(Number(res.headers['x-hedgerow-score'])).toBeCloseTo(decision.score, 1);
    for (const { name } of decision.hits) expect(res.headers['x-hedgerow-hits']).toContain(name);
  });
});

describe('production', () => {
  it('shows the client a request id and nothing else, and ignores overrides', () =>
    withFilter({ origin, vars: { ENVIRONMENT: undefined } }, async (filter) => {
      for (const name of ['openai-chat', ...HARVEST]) {
        const res = await sendFixture(filter, fixture(name), enforce('block'));
        expect(res.status).toBe(200);
        expect(
          Object.keys(res.headers).filter((header) => header.startsWith('x-hedgerow')),
        ).toEqual(['x-hedgerow-request-id']);
        expect(await filter.decision(res)).toMatchObject({ mode: 'shadow', enforced: false });
      }
      expect(origin.requests).toHaveLength(1 + HARVEST.length);
    }));
});

describe('own responses to scripts of web pages', () => {
  const page = 'https://app.example.com';
  const cors = (headers: Headers) =>
    Object.fromEntries(
      ['allow-origin', 'allow-credentials', 'expose-headers'].map((name) => [
        name,
        headers.get(`access-control-${name}`),
      ]),
    );
  const allowed = {
    'allow-origin': page,
    'allow-credentials': null,
    'expose-headers': expect.stringMatching(/retry-after.*x-hedgerow-request-id/),
  };
  const none = { 'allow-origin': null, 'allow-credentials': null, 'expose-headers': null };
  const ask = (url: string, headers: Record<string, string>) =>
    fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(chat('When do blackbirds nest?')),
    });

  it('can be read, and those of the origin are unchanged', async () => {
    for (const [action, status] of [
      ['throttle', 429],
      ['block', 403],
    ] as const) {
      const response = await ask(filter.url, { origin: page, ...enforce(action) });
      expect([response.status, response.headers.get('vary')]).toEqual([status, 'Origin']);
      expect(cors(response.headers)).toEqual(allowed);
    }
    expect(cors((await ask(filter.url, enforce('block'))).headers)).toEqual(none);
    const forwarded = await ask(filter.url, { origin: page });
    expect([forwarded.status, cors(forwarded.headers)]).toEqual([200, none]);
    // The filter forwards CORS preflight requests to the origin.
    origin.requests.length = 0;
    await fetch(`${filter.url}/v1/chat/completions`, {
      method: 'OPTIONS',
      headers: { origin: page, 'access-control-request-method': 'POST' },
    });
    expect(origin.requests.map(({ method }) => method)).toEqual(['OPTIONS']);
    // The API of Hedgerow sends no CORS headers, so pages of other origins cannot read it.
    const health = await fetch(`${filter.url}/_hedgerow/health`, { headers: { origin: page } });
    expect(cors(health.headers)).toEqual(none);
  });

  it('can be read if the origin does not answer', () =>
    withFilter({ origin: 'http://127.0.0.1:1' }, async (other) => {
      for (const target of ['/v1/chat/completions', '/v1/models']) {
        const response = await fetch(other.url + target, {
          method: target === '/v1/models' ? 'GET' : 'POST',
          headers: { origin: page, 'content-type': 'application/json' },
          ...(target !== '/v1/models' && { body: JSON.stringify(chat('hello')) }),
        });
        expect([response.status, cors(response.headers)]).toEqual([502, allowed]);
      }
    }));
});
