// docs/openapi.yaml is a valid document, complete, and tells what the Worker does: other specs hold every answer against it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { conforms, DOCUMENT, schemaAt } from './openapi.ts';
import { Filter, Origin, ROOT } from './support.ts';

const operations = Object.entries(DOCUMENT.paths).flatMap(([path, item]) => Object.entries(item).filter(([method]) => method !== 'parameters').map(([method, operation]) => ({ path, method, operation })));
const resolved = (response: { $ref?: string }) => (response.$ref ? (DOCUMENT.components.responses[response.$ref.split('/').at(-1)!] as typeof response) : response);

it('is OpenAPI 3.1', async () => {
  expect(DOCUMENT.openapi).toBe('3.1.0');
  const { valid, errors } = await new Validator().validate(parse(readFileSync(path.join(ROOT, 'docs/openapi.yaml'), 'utf8')));
  expect([valid, errors ?? []]).toEqual([true, []]);
});

it('every example is one', () => {
  let count = 0;
  for (const { path, method, operation } of operations) {
    for (const [status, response] of Object.entries(operation.responses)) {
      // What becomes a WebSocket has no content.
      if (status === '101') continue;
      const { example, examples } = (resolved(response) as typeof response).content!['application/json']!;
      const at = response.$ref ? response.$ref.slice(2).split('/') : ['paths', path, method, 'responses', status];
      for (const value of [example, ...Object.values(examples ?? {}).map(({ value }) => value)]) {
        if (value === undefined) continue;
        const validate = schemaAt(...at, 'content', 'application/json', 'schema');
        expect([path, status, validate(value) ? [] : validate.errors]).toEqual([path, status, []]);
        count++;
      }
    }
  }
  expect(count).toBeGreaterThan(30);
});

it('no answer may have members that it does not name', () => {
  const open = (schema: unknown, at: string): string[] => {
    if (Array.isArray(schema)) return schema.flatMap((item, index) => open(item, `${at}/${index}`));
    if (!schema || typeof schema !== 'object') return [];
    const own = (schema as { type?: unknown }).type === 'object' && !('additionalProperties' in schema) ? [at] : [];
    return [...own, ...Object.entries(schema).flatMap(([name, member]) => open(member, `${at}/${name}`))];
  };
  expect(open(DOCUMENT.components.schemas, '')).toEqual([]);
});

it('every call but health and version needs a token, and says what happens without', () => {
  for (const { path, operation } of operations) {
    const isOpen = ['/_hedgerow/health', '/_hedgerow/version'].includes(path);
    expect([path, operation.security]).toEqual([path, isOpen ? [] : undefined]);
    if (!isOpen) expect(Object.keys(operation.responses), path).toEqual(expect.arrayContaining(['401', '404', '429', '503']));
  }
});

it('a schema can fail', () => {
  expect(() => conforms('GET', '/_hedgerow/v1/bundles', 200, { bundles: [], more: 1 })).toThrow('GET /_hedgerow/v1/bundles: 200');
  expect(() => conforms('GET', '/_hedgerow/v1/bundles', 418, {})).toThrow('no such answer');
});

it('health and version are as it says, in development and in production', async () => {
  const origin = await Origin.start();
  try {
    for (const vars of [{}, { ENVIRONMENT: undefined }, { ACCOUNT_SECRET: undefined }] as Record<string, undefined>[]) {
      const filter = await Filter.start({ origin, vars });
      try {
        const health = await filter.health();
        conforms('GET', '/_hedgerow/health', health.status, await health.json());
        conforms('GET', '/_hedgerow/version', 200, await filter.version());
      } finally {
        await filter.dispose();
      }
    }
  } finally {
    await origin.close();
  }
});
