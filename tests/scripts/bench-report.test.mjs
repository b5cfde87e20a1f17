import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { missingRows, terminalReport } from '../../benches/report.mjs';
import { Failure, fromRoot } from '../../scripts/lib/proc.mjs';

const results = JSON.parse(readFileSync(fromRoot('docs/benchmarks.json'), 'utf8'));

/** Returns the recorded results without the rows for which `isRemoved` returns true. */
const without = (isRemoved) => (
  { ...results, rows: results.rows.filter((row) => !isRemoved(row)) });

test('the recorded results have all rows that the report needs', () => {
  assert.deepEqual(missingRows(results), []);
});

test('without wrk, the report needs no end-to-end rows', () => {
  const { wasm } = results.memory;
  const local = without(({ phase }) => phase === 'endtoend');
  assert.deepEqual(missingRows({ ...local, memory: { wasm } }), []);
});

test('the error lists all missing rows, with a remedy', () => {
  const lacking = without(({ in_turn_us, text, bytes, peer }) => (
    (in_turn_us && text === 'everyday' && bytes === 4096) || peer === 'baseline-js-reading'));
  assert.throws(() => terminalReport(lacking), (error) => {
    assert.ok(error instanceof Failure);
    assert.match(error.message, /\(2\):\n {2}benches\/phases\.mjs: .*4096 bytes of everyday\n/);
    assert.match(error.message, /\n {2}benches\/endtoend\.mjs: baseline-js-reading/);
    assert.match(error.message, /Run `npm run bench` again/);
    return true;
  });
});
