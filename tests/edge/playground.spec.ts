// The core as the browser has it: rules are checked, requests scored and explained, all without a server.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { chat, fixture, ROOT, sha256 } from './support.ts';

const MODULE = path.join(ROOT, 'build/wasm/hedgerow_wasm.js');
const built = existsSync(MODULE);
if (!built) console.log('skipped: build/wasm/ does not exist (`node scripts/build.mjs wasm`)');

interface Playground {
  initSync(init: { module: BufferSource }): unknown;
  check(files: string): string;
  diff(from: string, to: string): string;
  fields(): string;
  Filter: new (bundle: string) => { digest(): string; score(request: string, now: number): string; explain(request: string, now: number): string };
}

const RULE = 'synthesis/pairs.yml';
const GOOD = readFileSync(path.join(ROOT, 'tests/fixtures/strict', RULE), 'utf8');
const NOW = 1_795_000_000;
const body = JSON.stringify(chat('Write ten question-answer pairs about hedges.'));
const http = `POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-demo\r\n\r\n${body}`;

describe.skipIf(!built)('the playground', () => {
  let core: Playground;
  let bundle: string;
  let filter: InstanceType<Playground['Filter']>;
  const check = (rule: string) => JSON.parse(core.check(JSON.stringify({ [RULE]: rule })));
  beforeAll(async () => {
    core = await import(/* @vite-ignore */ MODULE);
    core.initSync({ module: readFileSync(MODULE.replace('.js', '_bg.wasm')) });
    bundle = check(GOOD).bundle;
    filter = new core.Filter(bundle);
  });

  it('makes a bundle of a good rule', () => {
    expect(check(GOOD)).toEqual({ findings: [], exemplars: expect.any(Array), signatures: 1, bundle: expect.any(String) });
    expect(filter.digest()).toBe(sha256(bundle));
    expect(JSON.parse(bundle).signatures).toMatchObject([{ name: 'synthesis_pairs', weight: 22 }]);
  });

  it('says where a bad rule is bad, and what to do', () => {
    const bad = GOOD.replace('hedgerow.prompt.user|contains', 'hedgerow.prompt.usr|contains');
    const line = bad.split('\n').findIndex((text) => text.includes('.usr')) + 1;
    expect(check(bad)).toEqual({ bundle: null, exemplars: [], signatures: 0, findings: [{ path: RULE, line, column: expect.any(Number), problem: expect.stringContaining('hedgerow.prompt.usr'), remedy: expect.stringMatching(/\w/) }] });
  });

  it('runs the exemplars of a rule', () => {
    const good = check(GOOD).exemplars;
    expect(good.map(({ name, expected, matches, line }: { name: string; expected: boolean; matches: boolean; line: number }) => [expected === matches, GOOD.split('\n')[line - 1]!.includes(name)])).toEqual(good.map(() => [true, true]));
    const { bundle, findings, exemplars } = check(GOOD.replace('Ten answer pairs', 'Ten question-answer pairs'));
    expect(bundle).toBeNull();
    expect(findings[0].problem).toContain('near: one word missing');
    expect(exemplars.filter(({ expected, matches }: { expected: boolean; matches: boolean }) => expected !== matches)).toEqual([{ path: RULE, line: findings[0].line, rule: 'synthesis_pairs', name: 'near: one word missing', expected: false, matches: true }]);
  });

  it('tells what a change of rules changes', () => {
    const other = JSON.parse(bundle);
    other.signatures[0].weight = 7;
    expect(JSON.parse(core.diff(bundle, JSON.stringify(other)))).toMatchObject({ added: [], removed: [], weights: [{ name: 'synthesis_pairs', from: 22, to: 7 }] });
  });

  it('names the fields', () => {
    const fields = JSON.parse(core.fields());
    expect(fields).toContainEqual({ name: 'hedgerow.prompt.user', kind: 'text', doc: expect.stringMatching(/\w/) });
  });

  it('scores raw HTTP and a JSON line alike', () => {
    const line = JSON.stringify({ path: '/v1/chat/completions', headers: { authorization: 'Bearer sk-demo' }, body: JSON.parse(body) });
    const scored = JSON.parse(filter.score(http, NOW));
    expect(scored).toMatchObject({ llm_call: true, decision: { dialect: 'openai', prior: -20, evidence: 22, contributions: [{ family: 'synthesis', raw: 22, capped: 22 }], band: 'suspect', action: 'degrade', mode: 'shadow', hits: [{ name: 'synthesis_pairs', weight: 22 }] } });
    expect(JSON.parse(filter.score(line, NOW))).toEqual(scored);
    expect(filter.score('GET /v1/models HTTP/1.1\r\n\r\n', NOW)).toBe('{"llm_call":false}');
  });

  it('explains what holds, with its place in the body, and what does not', () => {
    const [[explained]] = JSON.parse(filter.explain(http, NOW)).requests;
    expect(explained).toMatchObject({ name: 'synthesis_pairs', holds: true, selections: [{ name: 'pairs', holds: true, tests: [{ test: expect.stringContaining('hedgerow.prompt.user|contains'), holds: true }] }] });
    const { field, start, end } = explained.selections[0].tests[0].evidence;
    expect([field, body.slice(start, end)]).toEqual(['hedgerow.prompt.user', 'question-answer pairs']);
    const other = fixture('openai-chat');
    const [[silent]] = JSON.parse(filter.explain(`${other.method} ${other.path}\n\n${other.body}`, NOW)).requests;
    expect(silent).toMatchObject({ holds: false, selections: [{ holds: false, tests: [{ holds: false, evidence: null }] }] });
  });

  it('throws what it cannot read, with a reason', () => {
    expect(() => core.check('[]')).toThrow('expected a map');
    expect(() => filter.score('hello', NOW)).toThrow('request line');
    expect(() => new core.Filter('{}')).toThrow('no bundle');
  });
});
