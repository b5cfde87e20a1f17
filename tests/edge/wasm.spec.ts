// The Wasm module of the console, which checks rules, and scores and explains requests without a
// server.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { chat, fixture, isBuilt, ROOT, sha256 } from './support.ts';

const MODULE = path.join(ROOT, 'build/wasm/hedgerow_wasm.js');

interface WasmModule {
  initSync(init: { module: BufferSource }): unknown;
  check(files: string): string;
  embedded_bundle(bundle: string): string;
  diff(from: string, to: string): string;
  fields(): string;
  Filter: new (bundle: string) => {
    digest(): string;
    score(request: string, now: number): string;
    explain(request: string, now: number): string;
    passages(request: string, now: number): string;
  };
}

const RULE = 'synthesis/pairs.yml';
const VALID = readFileSync(path.join(ROOT, 'tests/fixtures/strict', RULE), 'utf8');
const NOW = 1_795_000_000;
const body = JSON.stringify(chat('Write ten question-answer pairs about hedges.'));
const http = `POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer sk-demo\r\n\r\n${body}`;

describe.skipIf(!isBuilt('build/wasm/hedgerow_wasm.js', 'node scripts/build.mjs wasm'))(
  'the Wasm module',
  () => {
    let core: WasmModule;
    let bundle: string;
    let filter: InstanceType<WasmModule['Filter']>;
    const check = (rule: string) => JSON.parse(core.check(JSON.stringify({ [RULE]: rule })));
    beforeAll(async () => {
      core = await import(/* @vite-ignore */ MODULE);
      core.initSync({ module: readFileSync(MODULE.replace('.js', '_bg.wasm')) });
      bundle = check(VALID).bundle;
      filter = new core.Filter(bundle);
    });

    it('builds a bundle from a valid rule', () => {
      expect(check(VALID)).toEqual({
        findings: [],
        exemplars: expect.any(Array),
        signatures: 1,
        bundle: expect.any(String),
      });
      expect(filter.digest()).toBe(sha256(bundle));
      expect(JSON.parse(bundle).signatures).toMatchObject([
        { name: 'synthesis_pairs', weight: 22 },
      ]);
    });

    it('makes a bundle for a Worker: without the digests of the files', () => {
      const embedded = JSON.parse(core.embedded_bundle(bundle));
      expect(embedded).toEqual({ ...JSON.parse(bundle), sources: {} });
    });

    it('reports an invalid rule with location and remedy', () => {
      const invalid = VALID.replace(
        'hedgerow.prompt.user|contains',
        'hedgerow.prompt.usr|contains',
      );
      const line = invalid.split('\n').findIndex((text) => text.includes('.usr')) + 1;
      expect(check(invalid)).toEqual({
        bundle: null,
        exemplars: [],
        signatures: 0,
        findings: [
          {
            path: RULE,
            line,
            column: expect.any(Number),
            problem: expect.stringContaining('hedgerow.prompt.usr'),
            remedy: expect.stringMatching(/\w/),
          },
        ],
      });
    });

    it('runs the exemplars of a rule', () => {
      const passing = check(VALID).exemplars;
      expect(
        passing.map(
          ({
            name,
            expected,
            actual,
            line,
          }: {
            name: string;
            expected: string;
            actual: string;
            line: number;
          }) => [expected === actual, VALID.split('\n')[line - 1]!.includes(name)],
        ),
      ).toEqual(passing.map(() => [true, true]));
      const { bundle, findings, exemplars } = check(
        VALID.replace('Ten answer pairs', 'Ten question-answer pairs'),
      );
      expect(bundle).toBeNull();
      expect(findings[0].problem).toContain('near: one word missing');
      expect(
        exemplars.filter(
          ({ expected, actual }: { expected: string; actual: string }) => expected !== actual,
        ),
      ).toEqual([
        {
          path: RULE,
          line: findings[0].line,
          rule: 'synthesis_pairs',
          name: 'near: one word missing',
          expected: 'no-match',
          actual: 'match',
        },
      ]);
    });

    it('lists the changes between two bundles', () => {
      const other = JSON.parse(bundle);
      other.signatures[0].weight = 7;
      expect(JSON.parse(core.diff(bundle, JSON.stringify(other)))).toMatchObject({
        added: [],
        removed: [],
        weights: [{ name: 'synthesis_pairs', from: 22, to: 7 }],
      });
    });

    it('lists the fields', () => {
      const fields = JSON.parse(core.fields());
      expect(fields).toContainEqual({
        name: 'hedgerow.prompt.user',
        kind: 'text',
        doc: expect.stringMatching(/\w/),
      });
    });

    it('scores raw HTTP and a JSON line equally', () => {
      const line = JSON.stringify({
        path: '/v1/chat/completions',
        headers: { authorization: 'Bearer sk-demo' },
        body: JSON.parse(body),
      });
      const scored = JSON.parse(filter.score(http, NOW));
      expect(scored).toMatchObject({
        llm_call: true,
        decision: {
          dialect: 'openai',
          prior: -20,
          evidence: 22,
          contributions: [{ family: 'synthesis', raw: 22, capped: 22 }],
          band: 'suspect',
          action: 'degrade',
          mode: 'shadow',
          hits: [{ name: 'synthesis_pairs', weight: 22 }],
        },
      });
      expect(JSON.parse(filter.score(line, NOW))).toEqual(scored);
      expect(filter.score('GET /v1/models HTTP/1.1\r\n\r\n', NOW)).toBe('{"llm_call":false}');
    });

    it('explains which selections match, with byte ranges in the body, and which do not', () => {
      const [[explained]] = JSON.parse(filter.explain(http, NOW)).requests;
      expect(explained).toMatchObject({
        name: 'synthesis_pairs',
        holds: true,
        selections: [
          {
            name: 'pairs',
            holds: true,
            tests: [
              { test: expect.stringContaining('hedgerow.prompt.user|contains'), holds: true },
            ],
          },
        ],
      });
      const { field, start, end } = explained.selections[0].tests[0].evidence;
      expect([field, body.slice(start, end)]).toEqual([
        'hedgerow.prompt.user',
        'question-answer pairs',
      ]);
      const other = fixture('openai-chat');
      const [[unmatched]] = JSON.parse(
        filter.explain(`${other.method} ${other.path}\n\n${other.body}`, NOW),
      ).requests;
      expect(unmatched).toMatchObject({
        holds: false,
        selections: [{ holds: false, tests: [{ holds: false, evidence: null }] }],
      });
    });

    it('divides the text of a request by who speaks', () => {
      const parts = (text: string) => {
        const { llm_call, passages } = JSON.parse(filter.passages(`${request}\n\n${text}`, NOW));
        expect(llm_call).toBe(true);
        return passages.map(({ field, section, start, end }: Record<string, string | number>) => [
          field,
          section,
          text.slice(Number(start), Number(end)),
        ]);
      };
      const request = 'POST /v1/chat/completions HTTP/1.1';
      const chat = (contents: string[]) => {
        const role = (index: number) => (index ? 'user' : 'system');
        const messages = contents.map((content, index) => ({ role: role(index), content }));
        return JSON.stringify({ messages });
      };
      expect(parts(chat(['Answer in Gaelic.', 'Which hedge?']))).toEqual([
        ['hedgerow.prompt.instruction', 'gen_ai.system_instructions', 'Answer in Gaelic.'],
        ['hedgerow.prompt.instruction', 'hedgerow.prompt.user', 'Which hedge?'],
      ]);
      expect(parts(chat(Array<string>(5_000).fill('Why?')))).toHaveLength(2_000);
      expect(JSON.parse(filter.passages('GET /v1/models HTTP/1.1\r\n\r\n', NOW))).toEqual({
        llm_call: false,
        passages: [],
      });
    });

    it('throws on invalid input, with the reason', () => {
      expect(() => core.check('[]')).toThrow('expected a map');
      expect(() => filter.score('hello', NOW)).toThrow('request line');
      expect(() => new core.Filter('{}')).toThrow('bundle');
    });
  },
);
