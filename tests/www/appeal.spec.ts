// The console reads appeal references as the command line does.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findRequestId, referenceOf } from '../../www/src/decisions/appeal.ts';

const ID = '01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a';
const REFERENCE = '06CHP-B1X9V-4YEKG-FSFDA-E8PYPZ';
const OTHER = '6f1c2a9e-3b4d-4e5f-8a6b-7c8d9e0f1a2b';

describe('appeal references', () => {
  it('are those of the core', () => {
    const file = new URL('../fixtures/appeal-references.json', import.meta.url);
    const pairs: [string, string][] = JSON.parse(readFileSync(file, 'utf8'));
    for (const [id, reference] of pairs) {
      expect(referenceOf(id)).toBe(reference);
      expect(findRequestId(reference)).toEqual({ id, mistyped: false });
    }
    expect(referenceOf('r-1')).toBeNull();
    expect(referenceOf('01991b2c-3d4e-4c9e-9d38-3f2f6a9c8b7a')).toBeNull();
  });

  it.each([
    REFERENCE.toLowerCase(),
    REFERENCE.replaceAll('-', ' '),
    REFERENCE.replaceAll('-', ''),
    REFERENCE.replaceAll('1', 'l').replaceAll('0', 'O'),
    `Appeal reference: ${REFERENCE}. Received 12.05.2026`,
    `x-hedgerow-request-id: ${ID.toUpperCase()}`,
  ])('are found in %j', (text) => {
    expect(findRequestId(text)).toEqual({ id: ID, mistyped: false });
  });

  it.each([
    [`Organization ${OTHER} Appeal reference: ${REFERENCE}`, ID],
    [`${REFERENCE} (${OTHER})`, ID],
    [`org ${OTHER}, x-hedgerow-request-id: ${ID}`, ID],
    [`${OTHER},${ID.toUpperCase()},${REFERENCE}`, ID],
    [`Organization ${OTHER}`, OTHER],
    [`Organization ${OTHER} Appeal reference: ${REFERENCE.replace('4', '5')}`, OTHER],
    // Digits of the UUID and the word after it are the symbols of another reference.
    [`6f1c2a9e-3b4d-4e5f-8a6b-7c8d9e0f106f opened ${REFERENCE}`, ID],
  ])('%j means the id %s', (text, id) => {
    expect(findRequestId(text)).toEqual({ id, mistyped: false });
  });

  it.each([
    [REFERENCE.replace('4', '5'), true],
    [REFERENCE.replace('YE', 'EY'), true],
    [REFERENCE.slice(0, -1), true],
    [`${REFERENCE}7`, true],
    [REFERENCE.replace('V', 'U'), true],
    ['01991b2c', false],
    ['req_011CSHoEeqs5C35K2UUqR7Fy', false],
    ['my request was refused at 12:05 and again at 13:10', false],
    ['', false],
  ])('%j is not one; mistyped: %s', (text, mistyped) => {
    expect(findRequestId(text)).toEqual({ id: null, mistyped });
  });
});
