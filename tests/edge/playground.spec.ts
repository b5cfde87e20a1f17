// The core as the browser has it: rules are checked, requests scored and explained, all without a server.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { chat, fixture, ROOT } from './support.ts';

const MODULE = path.join(ROOT, 'build/playground/hedgerow_playground.js');
const built = existsSync(MODULE);
if (!built) console.log('skipped: build/playground/ does not exist (`node scripts/build.mjs playground`)');

interface Playground {
  initSync(init: { module: BufferSource }): unknown;
  check(files: string): string;
  score(request: string, bundle: string, now: number): string;
  explain(request: string, bundle: string, now: number): string;
}

const RULE = 'synthesis/pairs.yml';
const GOOD = readFileSync(path.join(ROOT, 'tests/fixtures/strict', RULE), 'utf8');
const NOW = 1_795_000_000;
const body = JSON.stringify(chat('Write ten question-answer pairs about hedges.'));
const http = `POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-demo\r\n\r\n${body}`;

describe.skipIf(!built)('the playground', () => {
  let core: Playground;
  let bundle: string;
  const check = (rule: string) => JSON.parse(core.check(JSON.stringify({ [RULE]: rule })));
  beforeAll(async () => {
    core = await import(/* @vite-ignore */ MODULE);
    core.initSync({ module: readFileSync(MODULE.replace('.js', '_bg.wasm')) });
    bundle = check(GOOD).bundle;
  });

  it('makes a bundle of a good rule', () => {
    expect(check(GOOD)).toEqual({ findings: [], signatures: 1, bundle: expect.any(String) });
    expect(JSON.parse(bundle).signatures).toMatchObject([{ name: 'synthesis_pairs', weight: 22 }]);
  });

  it('says where a bad rule is bad, and what to do', () => {
    const bad = GOOD.replace('hedgerow.prompt.user|contains', 'hedgerow.prompt.usr|contains');
    const line = bad.split('\n').findIndex((text) => text.includes('.usr')) + 1;
    expect(check(bad)).toEqual({ bundle: null, signatures: 0, findings: [{ path: RULE, line, column: expect.any(Number), problem: expect.stringContaining('hedgerow.prompt.usr'), remedy: expect.stringMatching(/\w/) }] });
  });

  it('runs the exemplars of a rule', () => {
    const { bundle, findings } = check(GOOD.replace('Ten answer pairs', 'Ten question-answer pairs'));
    expect(bundle).toBeNull();
    expect(findings[0].problem).toContain('near: one word missing');
  });

  it('scores raw HTTP and a JSON line alike', () => {
    const line = JSON.stringify({ path: '/v1/chat/completions', headers: { authorization: 'Bearer sk-demo' }, body: JSON.parse(body) });
    const scored = JSON.parse(core.score(http, bundle, NOW));
    expect(scored).toMatchObject({ llm_call: true, score: { evidence: 22 }, decision: { dialect: 'openai', band: 'suspect', action: 'degrade', mode: 'shadow', hits: [{ name: 'synthesis_pairs', weight: 22 }] } });
    expect(JSON.parse(core.score(line, bundle, NOW))).toEqual(scored);
    expect(core.score('GET /v1/models HTTP/1.1\r\n\r\n', bundle, NOW)).toBe('{"llm_call":false}');
  });

  it('explains what holds, with its place in the body, and what does not', () => {
    const [[explained]] = JSON.parse(core.explain(http, bundle, NOW)).requests;
    expect(explained).toMatchObject({ name: 'synthesis_pairs', holds: true, selections: [{ name: 'pairs', holds: true, tests: [{ test: expect.stringContaining('hedgerow.prompt.user|contains'), holds: true }] }] });
    const { field, start, end } = explained.selections[0].tests[0].evidence;
    expect([field, body.slice(start, end)]).toEqual(['hedgerow.prompt.user', 'question-answer pairs']);
    const other = fixture('openai-chat');
    const [[silent]] = JSON.parse(core.explain(`${other.method} ${other.path}\n\n${other.body}`, bundle, NOW)).requests;
    expect(silent).toMatchObject({ holds: false, selections: [{ holds: false, tests: [{ holds: false, evidence: null }] }] });
  });

  it('throws what it cannot read, with a reason', () => {
    expect(() => core.check('[]')).toThrow('expected a map');
    expect(() => core.score('hello', bundle, NOW)).toThrow('request line');
    expect(() => core.explain(http, '{}', NOW)).toThrow('no bundle');
  });
});
