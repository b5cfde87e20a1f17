// docs/prometheus: rules and alerts are valid and begin and end as their tests say, and rules,
// alerts and dashboard use only metrics that exist.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { parse } from 'yaml';
import { fromRoot } from '../../scripts/lib/proc.mjs';

const read = (name) => readFileSync(fromRoot('docs', name), 'utf8');
const rules = ['rules.yml', 'alerts.yml'].flatMap((name) =>
  parse(read(`prometheus/${name}`)).groups.flatMap((group) => group.rules),
);
const dashboard = JSON.parse(read('prometheus/grafana.json'));

/** Returns the names of series that docs/metrics.md describes. */
function seriesNames() {
  const rows = read('metrics.md').matchAll(/^\| `(hedgerow_\w+)` \| (\w+) \|/gm);
  const suffixes = { counter: '_total', info: '_info', gauge: '' };
  return new Set([...rows].map(([, name, type]) => name + suffixes[type]));
}

test('the expressions use only metrics that exist', () => {
  const recorded = rules.flatMap(({ record }) => record ?? []);
  const known = new Set([...seriesNames(), ...recorded]);
  assert.ok(known.size > 30, [...known].join(', '));
  const panels = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  for (const expr of [...rules.map((rule) => rule.expr), ...panels]) {
    const used = expr.match(/hedgerow[_:][\w:]+/g) ?? [];
    assert.ok(used.length > 0, expr);
    for (const name of used) assert.ok(known.has(name), `${name} in ${expr}`);
  }
});

test('docs/metrics.md lists every alert with its severity', () => {
  const listed = [...read('metrics.md').matchAll(/^\| `(Hedgerow\w+)` \| (\w+) \|/gm)];
  const expected = rules
    .filter((rule) => rule.alert)
    .map((rule) => `${rule.alert} ${rule.labels.severity}`);
  const actual = listed.map(([, name, severity]) => `${name} ${severity}`);
  assert.deepEqual(actual.sort(), expected.sort());
});

test('the panels of the dashboard do not overlap', () => {
  const places = dashboard.panels.map(({ gridPos: { x, y, w, h } }) => (
    { x, y, right: x + w, end: y + h }));
  for (const [index, a] of places.entries()) {
    assert.ok(a.right <= 24);
    for (const b of places.slice(index + 1))
      assert.ok(a.right <= b.x || b.right <= a.x || a.end <= b.y || b.end <= a.y);
  }
});

test('promtool accepts the rules, and their tests pass', (context) => {
  const promtool = (...args) =>
    spawnSync('promtool', args, { cwd: fromRoot('docs/prometheus'), encoding: 'utf8' });
  if (promtool('--version').error) return context.skip('promtool is missing: install prometheus');
  for (const args of [
    ['check', 'rules', 'rules.yml', 'alerts.yml'],
    ['test', 'rules', 'alerts.test.yml'],
  ]) {
    const { status, stdout, stderr } = promtool(...args);
    assert.equal(status, 0, stdout + stderr);
  }
});
