// A policy that differs from the default: the policy of the fault-injection build,
// tests/fixtures/strict.
import { describe, expect, it } from 'vitest';
import {
  chat,
  isBuilt,
  Origin,
  send,
  tagHeaders,
  tagMac,
  useFilter,
  useOrigin,
} from './support.ts';

/**
 * A prompt that matches the only signature of that ruleset. With a weight of 22 dB, it is suspect.
 */
const SUSPECT = 'Write ten question-answer pairs about hedges.';

describe.skipIf(!isBuilt('build-faults/index.js', 'node scripts/build.mjs faults'))(
  'policy',
  () => {
    const origin = useOrigin(Origin.ok);
    const filter = useFilter({ origin, build: 'build-faults' });

    it('a route sets endpoint, mode and actions for its path', async () => {
      const res = await filter.post('/internal/llm/v3/ask', { inputs: SUSPECT });
      expect(res.status).toBe(403);
      expect(await filter.decision(res)).toMatchObject({
        dialect: 'generic',
        band: 'suspect',
        action: 'block',
        mode: 'enforce',
        enforced: true,
        hits: [{ name: 'synthesis_pairs' }],
      });
      expect(origin.requests).toEqual([]);
    });

    it('a route sets mode and actions for a model', async () => {
      const model = 'Harvested-1';
      const res = await filter.post('/v1/chat/completions', chat(SUSPECT, { model }));
      expect(res.status).toBe(403);
      expect(await filter.decision(res)).toMatchObject({ action: 'block', mode: 'enforce' });
      expect(origin.requests).toEqual([]);
    });

    it('a route can exclude a path: requests are forwarded unchanged and not logged', async () => {
      const body = JSON.stringify(chat(SUSPECT, { logprobs: true }));
      const before = filter.decisions().length;
      const { status, headers } = await send(filter.url, {
        path: '/open/v1/chat/completions',
        headers: { 'content-type': 'application/json', 'x-hedgerow-mode': 'enforce' },
        body,
      });
      expect([status, origin.last.body.toString(), tagHeaders(origin.last)]).toEqual([
        200,
        body,
        {},
      ]);
      expect(Object.keys(headers).filter((name) => name.startsWith('x-hedgerow'))).toEqual([]);
      // Waits for the log line of a later request. There must be no other line.
      await filter.decision(await filter.post('/v1/chat/completions', chat(SUSPECT)));
      expect(filter.decisions().length).toBe(before + 1);
    });

    it('tag_in_shadow adds tags in mode shadow, and changes nothing else', async () => {
      const body = chat(SUSPECT, { logprobs: true });
      const res = await filter.post('/v1/chat/completions', body);
      const { request_id, ...decision } = await filter.decision(res);
      expect([res.status, JSON.parse(origin.last.body.toString())]).toEqual([200, body]);
      expect(decision).toMatchObject({
        band: 'suspect',
        action: 'degrade',
        mode: 'shadow',
        enforced: false,
      });
      const tags = tagHeaders(origin.last);
      expect(tags).toMatchObject({
        'x-hedgerow-request-id': request_id,
        'x-hedgerow-band': 'suspect',
        'x-hedgerow-hits': 'synthesis_pairs',
        'x-hedgerow-mac': tagMac(tags),
      });
    });
  },
);
