// The real JavaScript SDKs, with requests through the filter. Responses do not change, and the SDKs
// convert refusals to their typed errors.
import Anthropic from '@anthropic-ai/sdk';
import { ApiError, GoogleGenAI } from '@google/genai';
import OpenAI from 'openai';
import OpenAI4 from 'openai-4';
import OpenAI5 from 'openai-5';
import { describe, expect, it } from 'vitest';
import { enforce, until, useFilter, useOrigin } from './support.ts';

const origin = useOrigin();
const filter = useFilter({ origin });

const openai = (defaultHeaders: Record<string, string> = {}) =>
  new OpenAI({ apiKey: 'sk-test-sdk', baseURL: `${filter.url}/v1`, maxRetries: 0, defaultHeaders });
const anthropic = (defaultHeaders: Record<string, string> = {}) =>
  new Anthropic({ apiKey: 'sk-ant-test-sdk', baseURL: filter.url, maxRetries: 0, defaultHeaders });

const model = 'demo-large';
const question = [
  { role: 'user' as const, content: 'Which hedge plants keep their leaves in winter?' },
];
const parameters = {
  type: 'object',
  properties: { plant: { type: 'string' }, metres: { type: 'integer' } },
  required: ['plant', 'metres'],
  additionalProperties: false,
};

describe('openai', () => {
  it('chat', async () => {
    const { data, response } = await openai()
      .chat.completions.create({ model, messages: question })
      .withResponse();
    expect(data.choices[0]!.message.content).toMatch(/\w/);
    expect(response.headers.get('x-demo-origin')).toBe('1');
    expect(await filter.decision(response)).toMatchObject({
      dialect: 'openai',
      operation: 'chat',
      mode: 'shadow',
      enforced: false,
      error: null,
    });
  });

  it('chat, streamed', async () => {
    const whole = await openai().chat.completions.create({ model, messages: question });
    let text = '';
    for await (const chunk of await openai().chat.completions.create({
      model,
      messages: question,
      stream: true,
      stream_options: { include_usage: true },
    })) {
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text.split(' ')).toHaveLength(whole.choices[0]!.message.content!.split(' ').length);
  });

  it('tools', async () => {
    const reply = await openai().chat.completions.create({
      model,
      messages: question,
      tools: [{ type: 'function', function: { name: 'order', parameters } }],
      tool_choice: 'required',
    });
    const call = reply.choices[0]!.message.tool_calls![0]!;
    expect(call.type === 'function' && JSON.parse(call.function.arguments)).toEqual({
      plant: 'green',
      metres: 1,
    });
  });

  it('structured output', async () => {
    const reply = await openai().chat.completions.parse({
      model,
      messages: question,
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'order', strict: true, schema: parameters },
      },
    });
    expect(JSON.parse(reply.choices[0]!.message.content!)).toEqual({ plant: 'green', metres: 1 });
  });

  it('embeddings', async () => {
    const reply = await openai().embeddings.create({
      model: 'demo-embed',
      input: ['hawthorn', 'blackthorn'],
    });
    expect(reply.data.map(({ embedding }) => embedding.length)).toEqual([8, 8]);
  });

  it('responses, plain and streamed', async () => {
    const whole = await openai().responses.create({
      model,
      instructions: 'Be brief.',
      input: 'Which moss grows on slate?',
    });
    const stream = openai().responses.stream({
      model,
      instructions: 'Be brief.',
      input: 'Which moss grows on slate?',
    });
    expect((await stream.finalResponse()).output_text.length).toBeGreaterThan(0);
    expect(whole.output_text).toMatch(/\w/);
  });

  it('a batch file', async () => {
    const line = JSON.stringify({
      custom_id: '1',
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model, messages: question },
    });
    const file = await openai().files.create({
      purpose: 'batch',
      file: await OpenAI.toFile(Buffer.from(`${line}\n${line}\n`), 'two.jsonl'),
    });
    expect(file.object).toBe('file');
    await until('the decision over two entries', () =>
      filter.decisions().find(({ dialect, entries }) => dialect === 'openai' && entries === 2),
    );
  });

  it('throttle becomes a RateLimitError', async () => {
    const error = await openai(enforce('throttle'))
      .chat.completions.create({ model, messages: question })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    const { status, message, headers } = error as InstanceType<typeof OpenAI.RateLimitError>;
    expect(status).toBe(429);
    expect(message).toMatch(/^429 \w/);
    expect(Number(headers!.get('retry-after'))).toBeGreaterThan(0);
    expect(origin.requests).toHaveLength(0);
  });

  it('block becomes a PermissionDeniedError, streaming or not', async () => {
    for (const stream of [false, true]) {
      const error = await openai(enforce('block'))
        .chat.completions.create({ model, messages: question, stream })
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(OpenAI.PermissionDeniedError);
      expect(error).toMatchObject({
        status: 403,
        param: null,
        type: expect.any(String),
        code: expect.any(String),
      });
    }
    expect(origin.requests).toHaveLength(0);
  });
});

describe('anthropic', () => {
  const ask = { model: 'demo-opus', max_tokens: 64, messages: question };

  it('message', async () => {
    const { data, response } = await anthropic().messages.create(ask).withResponse();
    expect(data.content[0]).toMatchObject({ type: 'text', text: expect.stringMatching(/\w/) });
    expect(await filter.decision(response)).toMatchObject({
      dialect: 'anthropic',
      operation: 'chat',
      error: null,
    });
  });

  it('message, streamed', async () => {
    const message = await anthropic().messages.stream(ask).finalMessage();
    expect(message.content[0]).toMatchObject({ type: 'text', text: expect.stringMatching(/\w/) });
    expect(message.stop_reason).toBe('end_turn');
  });

  it('tools, streamed', async () => {
    const message = await anthropic()
      .messages.stream({
        ...ask,
        tools: [{ name: 'order', input_schema: { ...parameters, type: 'object' as const } }],
        tool_choice: { type: 'tool', name: 'order' },
      })
      .finalMessage();
    expect(message.content[0]).toMatchObject({
      type: 'tool_use',
      name: 'order',
      input: { plant: 'green', metres: 1 },
    });
  });

  it('count_tokens and batches', async () => {
    expect(
      (await anthropic().messages.countTokens({ model: 'demo-opus', messages: question }))
        .input_tokens,
    ).toBeGreaterThan(0);
    const batch = await anthropic().messages.batches.create({
      requests: [1, 2, 3].map((n) => ({ custom_id: `r${n}`, params: ask })),
    });
    expect(batch.request_counts.processing).toBe(3);
    await until('the decision over three entries', () =>
      filter.decisions().find(({ dialect, entries }) => dialect === 'anthropic' && entries === 3),
    );
  });

  it('throttle becomes a RateLimitError', async () => {
    const error = await anthropic(enforce('throttle'))
      .messages.create(ask)
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Anthropic.RateLimitError);
    expect(error).toMatchObject({
      status: 429,
      error: { type: 'error', error: { type: 'rate_limit_error' } },
    });
    expect(
      Number((error as InstanceType<typeof Anthropic.RateLimitError>).headers!.get('retry-after')),
    ).toBeGreaterThan(0);
  });

  it('block becomes a PermissionDeniedError', async () => {
    const error = await anthropic(enforce('block'))
      .messages.create(ask)
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Anthropic.PermissionDeniedError);
    expect(error).toMatchObject({
      status: 403,
      error: { type: 'error', error: { type: 'permission_error' }, request_id: expect.any(String) },
    });
    expect(origin.requests).toHaveLength(0);
  });
});

describe('google', () => {
  const ask = { model: 'gemini-demo', contents: 'Which hedge plants keep their leaves in winter?' };
  const google = (headers: Record<string, string> = {}) =>
    new GoogleGenAI({ apiKey: 'test-sdk', httpOptions: { baseUrl: filter.url, headers } });

  it('content', async () => {
    const reply = await google().models.generateContent(ask);
    expect(reply.text).toMatch(/\w/);
    expect(await filter.decision({ headers: reply.sdkHttpResponse!.headers! })).toMatchObject({
      dialect: 'gemini',
      error: null,
    });
  });

  it('throttle and block become an ApiError with the body of the API', async () => {
    for (const [action, status, name] of [
      ['throttle', 429, 'RESOURCE_EXHAUSTED'],
      ['block', 403, 'PERMISSION_DENIED'],
    ] as const) {
      const error = await google(enforce(action))
        .models.generateContent(ask)
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(ApiError);
      const { status: found, message } = error as ApiError;
      const { error: body } = JSON.parse(message);
      expect([found, body.code, body.status]).toEqual([status, status, name]);
      const delay = { '@type': expect.stringMatching(/RetryInfo$/), retryDelay: '30s' };
      const request = {
        '@type': expect.stringMatching(/RequestInfo$/),
        requestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      };
      expect(body.details).toEqual(action === 'throttle' ? [delay, request] : [request]);
    }
    expect(origin.requests).toHaveLength(0);
  });
});

// With the default number of retries, the SDKs must not repeat a refused request or wait before
// they raise the error. If an SDK repeats a request, a second decision is logged.
describe('with the default number of retries', () => {
  const options = (action: 'throttle' | 'block', agent: string) => ({
    apiKey: 'sk-test-sdk',
    baseURL: `${filter.url}/v1`,
    defaultHeaders: { ...enforce(action), 'x-test-sdk': agent },
  });
  const ask = { model, messages: question };
  const CLIENTS = [
    ['openai 4', (action) => new OpenAI4(options(action, '4')).chat.completions.create(ask)],
    ['openai 5', (action) => new OpenAI5(options(action, '5')).chat.completions.create(ask)],
    ['openai 6', (action) => new OpenAI(options(action, '6')).chat.completions.create(ask)],
    [
      'anthropic',
      (action) =>
        new Anthropic({ ...options(action, 'a'), baseURL: filter.url }).messages.create({
          ...ask,
          max_tokens: 64,
        }),
    ],
  ] as [string, (action: 'throttle' | 'block') => Promise<unknown>][];

  it.each(CLIENTS)('%s raises the error of a refusal at once', async (_, call) => {
    for (const [action, status] of [
      ['throttle', 429],
      ['block', 403],
    ] as const) {
      const before = filter.decisions().length;
      const began = performance.now();
      const error = (await call(action).catch((e: unknown) => e)) as {
        status: number;
        headers: Headers | Record<string, string>;
        request_id?: string;
        requestID?: string;
      };
      // An SDK waits at least 375 ms before its first retry.
      const seconds = (performance.now() - began) / 1000;
      const { headers } = error;
      const header = (name: string) =>
        headers instanceof Headers ? headers.get(name) : (headers[name] ?? null);
      expect([error.status, header('x-should-retry'), header('retry-after')]).toEqual([
        status,
        'false',
        action === 'throttle' ? '30' : null,
      ]);
      expect(error.requestID ?? error.request_id).toBe(header('x-hedgerow-request-id'));
      // The SDK has not waited for the 30 s of `retry-after`.
      expect(seconds).toBeLessThan(30);
      const id = header('x-hedgerow-request-id');
      await filter.decision({ headers: { 'x-hedgerow-request-id': id } });
      expect(filter.decisions().length).toBe(before + 1);
    }
  });
});
