// Checks responses against docs/openapi.yaml. Tests check every response of the admin API.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { expect } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from './support.ts';

export interface Operation {
  responses: Record<
    string,
    {
      $ref?: string;
      content?: Record<
        string,
        { schema: object; example?: unknown; examples?: Record<string, { value: unknown }> }
      >;
    }
  >;
  requestBody?: { content: Record<string, { schema: object; example?: unknown }> };
  security?: object[];
}

export const DOCUMENT = parse(readFileSync(path.join(ROOT, 'docs/openapi.yaml'), 'utf8')) as {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, Record<string, unknown>>;
    responses: Record<string, object>;
  };
};

/** All operations of the document. */
export const OPERATIONS = Object.entries(DOCUMENT.paths).flatMap(([path, item]) =>
  Object.entries(item)
    .filter(([method]) => method !== 'parameters')
    .map(([method, operation]) => ({ path, method, operation })),
);

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema({ $id: 'openapi', ...DOCUMENT });
const validators = new Map<string, ValidateFunction>();

const escape = (part: string) =>
  encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'));
const pointer = (...parts: string[]) => `openapi#/${parts.map(escape).join('/')}`;

/** Returns the validator of the schema at a JSON pointer into the document. */
export function schemaAt(...parts: string[]): ValidateFunction {
  const ref = pointer(...parts);
  let validator = validators.get(ref);
  if (!validator) validators.set(ref, (validator = ajv.compile({ $ref: ref })));
  return validator;
}

/**
 * Returns the path template in the document that a requested path matches, such as
 * `/bundles/{digest}`.
 */
const pathTemplate = (pathname: string) => {
  const matches = (template: string) =>
    new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname);
  return DOCUMENT.paths[pathname] ? pathname : Object.keys(DOCUMENT.paths).find(matches);
};

/**
 * Calls that `assertConforms` has checked in the current spec file, as `<METHOD> <path template>
 * <status>`.
 */
export const coveredCalls = new Set<string>();

/**
 * Fails unless the document describes this response. If the document does not have the path or
 * method, the status must be 404, 401, 403, 405 or 429.
 */
export function assertConforms(method: string, target: string, status: number, body: unknown) {
  const template = pathTemplate(target.split('?')[0]!);
  const operation = template && DOCUMENT.paths[template]?.[method.toLowerCase()];
  const label = `${method} ${target}: ${status}`;
  const response = operation ? operation.responses[String(status)] : undefined;
  if (operation)
    expect(
      response,
      `docs/openapi.yaml has no such response: ${label} ${JSON.stringify(body)}`,
    ).toBeDefined();
  const content = ['content', 'application/json', 'schema'];
  const parts = !operation
    ? ['components', 'schemas', [401, 403, 405, 429].includes(status) ? 'Error' : 'NotFound']
    : response?.$ref
      ? [...response.$ref.slice(2).split('/'), ...content]
      : ['paths', template!, method.toLowerCase(), 'responses', String(status), ...content];
  const validate = schemaAt(...parts);
  validate(body);
  expect(
    validate.errors?.map(
      ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
    ) ?? [],
    `${label} ${JSON.stringify(body)?.slice(0, 300)}`,
  ).toEqual([]);
  if (operation) coveredCalls.add(`${method} ${template} ${status}`);
}
