// The words of refusals, appeal references and the notice of degraded requests, by the policy of
// the fault-injection build (tests/fixtures/strict).
import Anthropic from '@anthropic-ai/sdk';
import { ApiError, GoogleGenAI } from '@google/genai';
import OpenAI from 'openai';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { findRequestId, referenceOf } from '../../www/src/decisions/appeal.ts';
import { chat, enforce, isBuilt, Origin, until, useFilter, useOrigin } from './support.ts';

/** A prompt that the only signature of that ruleset makes suspect, with a weight of 22 dB. */
const SUSPECT = 'Write ten question-answer pairs about hedges.';
const GERMAN = { 'accept-language': 'xx, de-CH;q=0.9, en;q=0.1' };
const REFERENCE = /[0-9A-Z]{5}(-[0-9A-Z]{5}){3}-[0-9A-Z]{6}/;

/** Returns the German text of a refusal of the request `id`. */
const germanText = (id: string) =>
  `Abgelehnt. Für einen Widerspruch: https://help.example.com/?ref=${referenceOf(id)}`;

describe.skipIf(!isBuilt('build-faults/index.js', 'node scripts/build.mjs faults'))(
  'the words of the policy',
  () => {
    const origin = useOrigin(Origin.ok);
    const filter = useFilter({ origin, build: 'build-faults' });
    const headers = (action: 'throttle' | 'block') => ({ ...enforce(action), ...GERMAN });

    it.each([
      ['throttle', 429, OpenAI.RateLimitError, 'rate_limit_exceeded'],
      ['block', 403, OpenAI.PermissionDeniedError, 'permission_denied'],
    ] as const)('openai, %s: typed, with text and code', async (action, status, kind, type) => {
      const openai = new OpenAI({
        apiKey: 'sk-test-words',
        baseURL: `${filter.url}/v1`,
        defaultHeaders: headers(action),
      });
      const error = await openai.chat.completions
        .create({ model: 'm', messages: [{ role: 'user', content: 'Which moss is this?' }] })
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(kind);
      const { requestID, ...found } = error as InstanceType<typeof kind>;
      expect(found).toMatchObject({ status, type, code: 'usage_policy', param: null });
      expect((error as Error).message).toBe(`${status} ${germanText(requestID!)}`);
      const { headers: received } = error as InstanceType<typeof kind>;
      expect(received!.get('content-language')).toBe('de');
      expect(received!.get('x-hedgerow-appeal')).toBe(referenceOf(requestID!));
      expect(findRequestId((error as Error).message).id).toBe(requestID);
    });

    it('anthropic: a typed error of the official shape, in the client’s language', async () => {
      const ask = (language: string) =>
        new Anthropic({
          apiKey: 'sk-ant-test-words',
          baseURL: filter.url,
          defaultHeaders: { ...enforce('block'), 'accept-language': language },
        }).messages
          .create({ model: 'm', max_tokens: 9, messages: [{ role: 'user', content: 'Hello' }] })
          .catch((e: unknown) => e as InstanceType<typeof Anthropic.PermissionDeniedError>);
      for (const [language, text] of [
        ['de', germanText],
        ['fr-CA', (id: string) => `Refusé (${id}).`],
        ['*', (id: string) => expect.stringContaining(`policy. Request id: ${id}`)],
      ] as [string, (id: string) => unknown][]) {
        const error = (await ask(language)) as InstanceType<typeof Anthropic.PermissionDeniedError>;
        expect(error).toBeInstanceOf(Anthropic.PermissionDeniedError);
        const id = error.requestID!;
        expect([error.status, error.error]).toEqual([
          403,
          {
            type: 'error',
            error: { type: 'permission_error', message: text(id) },
            request_id: id,
          },
        ]);
      }
    });

    it('google: an ApiError with code and link in the details', async () => {
      const google = new GoogleGenAI({
        apiKey: 'test-words',
        httpOptions: { baseUrl: filter.url, headers: headers('block') },
      });
      const error = await google.models
        .generateContent({ model: 'm', contents: 'Which moss is this?' })
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(ApiError);
      const { error: body } = JSON.parse((error as ApiError).message);
      const [request, info, help] = body.details;
      const url = `https://help.example.com/?ref=${referenceOf(request.requestId)}`;
      expect(body).toMatchObject({ code: 403, status: 'PERMISSION_DENIED' });
      expect(body.message).toBe(germanText(request.requestId));
      expect(info).toMatchObject({ reason: 'USAGE_POLICY', domain: 'help.example.com' });
      expect(help.links).toEqual([{ description: 'Help', url }]);
    });

    it('a WebSocket has them in the error event and in the close frame', async () => {
      const socket = new WebSocket(`${filter.url.replace('http', 'ws')}/v1/realtime?model=m`, [], {
        headers: { authorization: 'Bearer sk-words', ...headers('block') },
      });
      const messages: string[] = [];
      let closed: { code: number; reason: string } | undefined;
      socket.on('error', () => {});
      socket.on('message', (data: Buffer) => messages.push(data.toString()));
      socket.on('close', (code: number, reason: Buffer) => {
        closed = { code, reason: reason.toString() };
      });
      socket.on('open', () => {
        const content = [{ type: 'input_text', text: SUSPECT }];
        const item = { type: 'message', role: 'user', content };
        socket.send(JSON.stringify({ type: 'conversation.item.create', item }));
      });
      const { code, reason } = await until('a close', () => closed);
      const [event] = messages.map((text) => JSON.parse(text));
      expect(event).toMatchObject({
        type: 'error',
        status: 403,
        error: { code: 'usage_policy', message: germanText(event.error.request_id) },
      });
      expect([code, reason]).toEqual([1008, event.error.message]);
    });
  },
);

describe.skipIf(!isBuilt('build-faults/index.js', 'node scripts/build.mjs faults'))(
  'the notice',
  () => {
    const page = 'https://app.example.com';
    const origin = useOrigin((_, res) =>
      res
        .writeHead(200, {
          'content-type': 'application/json',
          'x-usage-notice': 'forged by the origin',
          'access-control-expose-headers': 'x-of-the-origin',
        })
        .end('{"ok":true}'),
    );
    const filter = useFilter({ origin, build: 'build-faults' });
    const ask = (logprobs: boolean, headers: Record<string, string>) =>
      filter.post('/v1/chat/completions', chat(SUSPECT, logprobs ? { logprobs } : {}), headers);

    it('is in the response to an edited request, and pages may read it', async () => {
      const response = await ask(true, { ...enforce('degrade'), origin: page });
      const id = response.headers.get('x-hedgerow-request-id')!;
      expect(response.headers.get('x-usage-notice')).toBe(
        `Some parameters were removed. Reference ${referenceOf(id)}. https://help.example.com/limits`,
      );
      expect(response.headers.get('access-control-expose-headers')).toBe(
        'x-of-the-origin, x-usage-notice',
      );
      expect(JSON.parse(origin.last.body.toString())).not.toHaveProperty('logprobs');
    });

    it.each([
      ['an unchanged request', false, enforce('degrade')],
      ['a tagged request', true, enforce('tag')],
      ['a request in mode shadow', true, {}],
    ])('is not in the response to %s, not even forged', async (_, logprobs, mode) => {
      const response = await ask(logprobs, { ...mode, origin: page });
      expect([response.status, response.headers.get('x-usage-notice')]).toEqual([200, null]);
      expect(response.headers.get('access-control-expose-headers')).toBe('x-of-the-origin');
    });

    it('a refusal exposes the header with the appeal reference', async () => {
      const response = await ask(true, { ...enforce('block'), origin: page });
      expect(response.status).toBe(403);
      expect(response.headers.get('x-hedgerow-appeal')).toMatch(REFERENCE);
      expect(response.headers.get('access-control-expose-headers')).toContain('x-hedgerow-appeal');
      expect(response.headers.get('content-language')).toBeNull();
    });
  },
);
