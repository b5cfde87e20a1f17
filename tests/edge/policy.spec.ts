// Policy that differs from the default, at the edge: the fault-injection build has one of its own (tests/fixtures/strict).
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { chat, Filter, mac, Origin, ROOT, send, sleep, tagsOf } from './support.ts';

const built = existsSync(path.join(ROOT, 'build-faults/index.js'));
if (!built) console.log('skipped: build-faults/ does not exist (`node scripts/build.mjs faults`)');

/** Fits the only signature of that ruleset; 22 dB make it suspect. */
const SUSPECT = 'Write ten question-answer pairs about hedges.';

describe.skipIf(!built)('policy', () => {
  let origin: Origin;
  let filter: Filter;
  beforeAll(async () => {
    origin = await Origin.start();
    filter = await Filter.start({ origin, build: 'build-faults' });
  });
  afterAll(async () => {
    await filter?.dispose();
    await origin?.close();
  });
  beforeEach(() => {
    origin.reset();
    origin.answer = Origin.ok;
  });

  it('a route gives a path of its own an endpoint, a mode and actions', async () => {
    const res = await filter.post('/internal/llm/v3/ask', { inputs: SUSPECT });
    expect(res.status).toBe(403);
    expect(await filter.decision(res)).toMatchObject({ dialect: 'generic', band: 'suspect', action: 'block', mode: 'enforce', enforced: true, hits: [{ name: 'synthesis_pairs' }] });
    expect(origin.seen).toEqual([]);
  });

  it('a route may say that a path is no LLM call: untouched and uncounted', async () => {
    const body = JSON.stringify(chat(SUSPECT, { logprobs: true }));
    const before = filter.decisions().length;
    const { status, headers } = await send(filter.url, { path: '/open/v1/chat/completions', headers: { 'content-type': 'application/json', 'x-hedgerow-mode': 'enforce' }, body });
    expect([status, origin.last.body.toString(), tagsOf(origin.last)]).toEqual([200, body, {}]);
    expect(Object.keys(headers).filter((name) => name.startsWith('x-hedgerow'))).toEqual([]);
    await sleep(200);
    expect(filter.decisions().length).toBe(before);
  });

  it('tag_in_shadow tells the origin, and changes nothing else', async () => {
    const body = chat(SUSPECT, { logprobs: true });
    const res = await filter.post('/v1/chat/completions', body);
    const { request_id, ...decision } = await filter.decision(res);
    expect([res.status, JSON.parse(origin.last.body.toString())]).toEqual([200, body]);
    expect(decision).toMatchObject({ band: 'suspect', action: 'degrade', mode: 'shadow', enforced: false });
    const tags = tagsOf(origin.last);
    expect(tags).toMatchObject({ 'x-hedgerow-request-id': request_id, 'x-hedgerow-band': 'suspect', 'x-hedgerow-hits': 'synthesis_pairs', 'x-hedgerow-mac': mac(tags) });
  });
});
