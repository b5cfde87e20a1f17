// The settings for staging in docs/environments.md, checked by Wrangler itself: with them, staging
// has every binding that production has.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { fromRoot, toolEnv } from '../../scripts/lib/proc.mjs';
import { wranglerToml } from '../../scripts/lib/release.mjs';

/** A Worker with the Durable Objects that wrangler.toml names. */
const WORKER = `import { DurableObject } from 'cloudflare:workers';
export class Registry extends DurableObject {}
export class Ledger extends DurableObject {}
export class Correlator extends DurableObject {}
export default { fetch: () => new Response() };
`;

/** Returns the first block of TOML of docs/environments.md. */
const stagingSettings = () =>
  /```toml\n(.*?)```/s.exec(readFileSync(fromRoot('docs/environments.md'), 'utf8'))[1];

/** Returns wrangler.toml without its build, which would compile the Worker. */
const settings = () => wranglerToml(readFileSync(fromRoot('wrangler.toml'), 'utf8'));

/** Returns the bindings that `wrangler deploy` prints, each as `NAME: kind`. */
function bindings(directory, environment) {
  const wrangler = fromRoot('node_modules/wrangler/bin/wrangler.js');
  const args = [wrangler, 'deploy', '--dry-run', `--env=${environment}`];
  const node = fromRoot('node_modules/.bin/node');
  const { status, stdout, stderr } = spawnSync(node, args, {
    cwd: directory,
    encoding: 'utf8',
    env: toolEnv({ NO_COLOR: '1' }),
  });
  assert.equal(status, 0, stdout + stderr);
  const lines = stdout.matchAll(/^env\.(\w+) .*?(Durable Object|KV Namespace|Assets)/gm);
  return [...lines].map(([, name, kind]) => `${name}: ${kind}`).sort();
}

test('staging has the bindings of production', (context) => {
  if (!existsSync(fromRoot('node_modules/wrangler'))) return context.skip('run `npm ci` first');
  const directory = mkdtempSync(path.join(tmpdir(), 'hedgerow-staging-'));
  try {
    mkdirSync(path.join(directory, 'build/console'), { recursive: true });
    writeFileSync(path.join(directory, 'build/index.js'), WORKER);
    const file = path.join(directory, 'wrangler.toml');
    writeFileSync(file, `${settings()}\n${stagingSettings()}`);
    const production = bindings(directory, '');
    assert.equal(production.length, 5, production.join(', '));
    assert.deepEqual(bindings(directory, 'staging'), production);
    // Wrangler does not inherit bindings: without the block of one, staging lacks it.
    const withoutKv = stagingSettings().replace(/\[\[env\.staging\.kv_namespaces\]\]\n.*\n/, '');
    writeFileSync(file, `${settings()}\n${withoutKv}`);
    assert.equal(bindings(directory, 'staging').length, 4);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
