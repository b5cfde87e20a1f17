// Scripts that install the npm packages must not import any of them. Otherwise, the scripts would
// not start in a fresh clone.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fromRoot } from '../../scripts/lib/proc.mjs';

const COMMANDS = ['start', 'test', 'build', 'setup', 'release'];
const ENTRY_POINTS = COMMANDS.map((name) => `scripts/${name}.mjs`);
const STATIC_IMPORT = /^(?:import|export)\s[^;]*?from '([^']+)'|^import '([^']+)'/gm;

/**
 * Returns the npm packages that a script and its local modules import at start, each with the
 * importing file.
 */
function importedPackages(file, seen = new Set()) {
  if (seen.has(file)) return [];
  seen.add(file);
  const imports = [...readFileSync(file, 'utf8').matchAll(STATIC_IMPORT)];
  return imports.flatMap(([, named, bare]) => {
    const specifier = named ?? bare;
    if (specifier.startsWith('node:')) return [];
    if (!specifier.startsWith('.')) return [`${specifier} in ${path.relative(fromRoot(), file)}`];
    return importedPackages(path.resolve(path.dirname(file), specifier), seen);
  });
}

for (const entryPoint of ENTRY_POINTS) {
  test(`${entryPoint} starts without node_modules`, () => {
    assert.deepEqual(importedPackages(fromRoot(entryPoint)), []);
  });
}

test('the search finds an import of a package', () => {
  const found = importedPackages(fromRoot('scripts/lib/minisign.mjs'));
  assert.deepEqual(found, ['@noble/hashes/blake2.js in scripts/lib/minisign.mjs']);
});
