// docs/openapi.yaml as a measure: every answer of the admin API that a test sees is held against it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { expect } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from './support.ts';

export interface Operation {
  responses: Record<string, { $ref?: string; content?: Record<string, { schema: object; example?: unknown; examples?: Record<string, { value: unknown }> }> }>;
  requestBody?: { content: Record<string, { schema: object; example?: unknown }> };
  security?: object[];
}

/** The document as it is. */
export const DOCUMENT = parse(readFileSync(path.join(ROOT, 'docs/openapi.yaml'), 'utf8')) as {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Record<string, unknown>>; responses: Record<string, object> };
};

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema({ $id: 'openapi', ...DOCUMENT });
const compiled = new Map<string, ValidateFunction>();

const pointer = (...parts: string[]) => `openapi#/${parts.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`;

/** The validator of the schema at a JSON pointer into the document. */
export function schemaAt(...parts: string[]): ValidateFunction {
  const ref = pointer(...parts);
  let validator = compiled.get(ref);
  if (!validator) compiled.set(ref, (validator = ajv.compile({ $ref: ref })));
  return validator;
}

/** The path as the document has it. */
const templateOf = (pathname: string) => {
  const fits = (template: string) => new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(pathname);
  return DOCUMENT.paths[pathname] ? pathname : Object.keys(DOCUMENT.paths).find(fits);
};

/** Every pair of operation and status that was seen, so that a spec can tell what was not. */
export const met = new Set<string>();

/** Fails unless the document describes this answer. What it knows no operation for is answered as any unknown path, or with 401, 403, 405. */
export function conforms(method: string, target: string, status: number, body: unknown) {
  const template = templateOf(target.split('?')[0]!);
  const operation = template && DOCUMENT.paths[template]?.[method.toLowerCase()];
  const what = `${method} ${target}: ${status}`;
  const at = operation ? ['paths', template, method.toLowerCase(), 'responses', String(status)] : null;
  const response = operation ? operation.responses[String(status)] : undefined;
  if (operation) expect(response, `docs/openapi.yaml knows no such answer: ${what} ${JSON.stringify(body)}`).toBeDefined();
  const parts = !at ? ['components', 'schemas', [401, 403, 405, 429].includes(status) ? 'Error' : 'NotFound'] : response?.$ref ? [...response.$ref.slice(2).split('/'), 'content', 'application/json', 'schema'] : [...at, 'content', 'application/json', 'schema'];
  const validate = schemaAt(...parts);
  validate(body);
  expect(validate.errors?.map(({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`) ?? [], `${what} ${JSON.stringify(body)?.slice(0, 300)}`).toEqual([]);
  if (operation) met.add(`${method} ${template} ${status}`);
}
