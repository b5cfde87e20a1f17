// docs/openapi.yaml is valid and complete. Other specs check every response against it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { assertConforms, DOCUMENT, OPERATIONS, schemaAt } from './openapi.ts';
import { ROOT, useOrigin, withFilter } from './support.ts';

const origin = useOrigin();
const resolve = (response: { $ref?: string }) =>
  response.$ref
    ? (DOCUMENT.components.responses[response.$ref.split('/').at(-1)!] as typeof response)
    : response;

it('is OpenAPI 3.1', async () => {
  expect(DOCUMENT.openapi).toBe('3.1.0');
  const { valid, errors } = await new Validator().validate(
    parse(readFileSync(path.join(ROOT, 'docs/openapi.yaml'), 'utf8')),
  );
  expect([valid, errors ?? []]).toEqual([true, []]);
});

it('every example matches its schema', () => {
  let count = 0;
  for (const { path, method, operation } of OPERATIONS) {
    for (const [status, response] of Object.entries(operation.responses)) {
      // Some responses have no content, such as that to a WebSocket upgrade.
      const content = (resolve(response) as typeof response).content?.['application/json'];
      if (!content) continue;
      const { example, examples } = content;
      const at = response.$ref
        ? response.$ref.slice(2).split('/')
        : ['paths', path, method, 'responses', status];
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

it('every object schema declares additionalProperties', () => {
  const openSchemas = (schema: unknown, at: string): string[] => {
    if (Array.isArray(schema))
      return schema.flatMap((item, index) => openSchemas(item, `${at}/${index}`));
    if (!schema || typeof schema !== 'object') return [];
    const isOpen =
      (schema as { type?: unknown }).type === 'object' && !('additionalProperties' in schema);
    return [
      ...(isOpen ? [at] : []),
      ...Object.entries(schema).flatMap(([name, member]) => openSchemas(member, `${at}/${name}`)),
    ];
  };
  expect(openSchemas(DOCUMENT.components.schemas, '')).toEqual([]);
});

it('every call but health and version needs a token', () => {
  for (const { path, operation } of OPERATIONS) {
    const isOpen = ['/_hedgerow/health', '/_hedgerow/version'].includes(path);
    expect([path, operation.security]).toEqual([path, isOpen ? [] : undefined]);
    if (!isOpen)
      expect(Object.keys(operation.responses), path).toEqual(
        expect.arrayContaining(['401', '404', '429', '503']),
      );
  }
});

it('the check rejects unknown members and statuses', () => {
  expect(() =>
    assertConforms('GET', '/_hedgerow/v1/bundles', 200, { bundles: [], more: 1 }),
  ).toThrow('GET /_hedgerow/v1/bundles: 200');
  expect(() => assertConforms('GET', '/_hedgerow/v1/bundles', 418, {})).toThrow('no such response');
});

it('health and version conform, in development and in production', async () => {
  for (const vars of [{}, { ENVIRONMENT: undefined }, { ACCOUNT_SECRET: undefined }] as Record<
    string,
    undefined
  >[]) {
    await withFilter({ origin, vars }, async (filter) => {
      const health = await filter.health();
      assertConforms('GET', '/_hedgerow/health', health.status, await health.json());
      assertConforms('GET', '/_hedgerow/version', 200, await filter.version());
    });
  }
});
